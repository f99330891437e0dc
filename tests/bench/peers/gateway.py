"""This gateway, with the full chain: key, parsing, accounting, ledger, metrics."""

from __future__ import annotations

import hashlib
import json
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from .peer import MODELS, Launch, NotInstalled, Say

_KEY = "bench-key-0123456789abcdef0123456789abcdef"
_PRICE = {"input_per_mtok_usd": 2.5, "output_per_mtok_usd": 10}


class Gateway:
    """`llm-gateway serve` with one worker and embedded storage."""

    name = "gateway"
    title = "this gateway"
    note = "full chain: virtual key, price, ledger on disk, metrics; embedded storage"

    def install(self, home: Path, say: Say) -> str:
        if not _program().exists():
            raise NotInstalled(f"no {_program()}")
        try:
            return version("llm-gateway")
        except PackageNotFoundError as error:
            raise NotInstalled("the package llm-gateway is not installed") from error

    def launch(self, folder: Path, upstream: int, port: int) -> Launch | None:
        config = folder / "gateway.yaml"
        # JSON is YAML.
        config.write_text(json.dumps(_settings(folder, upstream)))
        command = [str(_program()), "serve", "--config", str(config), "--port", "0"]
        return Launch(command, headers={"authorization": f"Bearer {_KEY}"})


def _program() -> Path:
    return Path(sys.executable).with_name("llm-gateway")


def _settings(folder: Path, upstream: int) -> dict[str, object]:
    digest = hashlib.sha256(_KEY.encode()).hexdigest()
    return {
        "server": {"host": "127.0.0.1", "port": 0},
        "storage": {"url": "memory://", "data_dir": str(folder / "ledger")},
        "providers": {
            "fake": {
                "kind": "openai",
                "base_url": f"http://127.0.0.1:{upstream}/v1",
                "api_key": "sk-fake",
            }
        },
        "models": {model: _group(model) for model in MODELS},
        "tenants": {"bench": {"models": ["*"], "keys": [{"id": "bench", "hash": f"sha256:{digest}"}]}},
    }


def _group(model: str) -> dict[str, object]:
    return {"deployments": [{"provider": "fake", "model": model, "price": _PRICE}]}
