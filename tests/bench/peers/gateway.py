"""This gateway, with the full chain: key, parsing, accounting, ledger, metrics."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from .peer import MODELS, Launch, NotInstalled, Say

_KEY = "bench-key-0123456789abcdef0123456789abcdef"
_PRICE = {"input_per_mtok_usd": 2.5, "output_per_mtok_usd": 10}
_LIMITS = {
    "limits": {"rpm": 10**9, "tpm": 10**12, "concurrency": 10**6},
    "budget": {"usd": 10**6},
}
_REDACTION = {"mode": "mask", "restore": True}


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
        return _launch(_settings(folder, upstream), folder)


class WithLimits(Gateway):
    """The same with rates, slots and a budget for every request."""

    name = "gateway-limits"
    title = "… with limits"
    note = "the same with rpm, tpm, concurrency and a budget; embedded storage"

    def launch(self, folder: Path, upstream: int, port: int) -> Launch | None:
        return _launch(_settings(folder, upstream, _LIMITS), folder)


class WithRedis(Gateway):
    """The same, counted in a Redis that shares the second core with load and provider."""

    name = "gateway-redis"
    title = "… in Redis"
    note = "the same with rpm, tpm, concurrency and a budget, counted in Redis"

    def install(self, home: Path, say: Say) -> str:
        if shutil.which("redis-server") is None:
            raise NotInstalled("no redis-server (Debian: apt-get install redis-server)")
        return super().install(home, say)

    def launch(self, folder: Path, upstream: int, port: int) -> Launch | None:
        settings = _settings(folder, upstream, _LIMITS)
        settings["storage"] = {
            "url": f"redis://127.0.0.1:{port}/0",
            "data_dir": str(folder / "ledger"),
        }
        redis = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
        return _launch(settings, folder, [redis])


class WithRedaction(Gateway):
    """The same with requests and answers searched for personal data; there is none."""

    name = "gateway-redaction"
    title = "… with redaction"
    note = "the same with requests and answers searched for personal data by `fast`, and none found"
    direction = "both"

    def launch(self, folder: Path, upstream: int, port: int) -> Launch | None:
        redaction = {**_REDACTION, "direction": self.direction}
        return _launch(_settings(folder, upstream, {"redaction": redaction}), folder)


def _launch(settings: dict[str, object], folder: Path, beside: Sequence[Sequence[str]] = ()) -> Launch:
    config = folder / "gateway.yaml"
    # JSON is YAML.
    config.write_text(json.dumps(settings))
    command = [str(_program()), "serve", "--config", str(config), "--port", "0"]
    return Launch(command, headers={"authorization": f"Bearer {_KEY}"}, beside=beside)


def _program() -> Path:
    return Path(sys.executable).with_name("llm-gateway")


def _settings(folder: Path, upstream: int, tenant: dict[str, object] | None = None) -> dict[str, object]:
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
        "tenants": {
            "bench": {
                "models": ["*"],
                "keys": [{"id": "bench", "hash": f"sha256:{digest}"}],
                **(tenant or {}),
            }
        },
    }


def _group(model: str) -> dict[str, object]:
    return {"deployments": [{"provider": "fake", "model": model, "price": _PRICE}]}
