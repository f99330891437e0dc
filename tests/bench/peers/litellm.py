"""LiteLLM's proxy, in its own virtual environment."""

from __future__ import annotations

import json
from pathlib import Path

from .peer import MODELS, Launch, Say, venv_with

_KEY = "sk-bench-0123456789"
_ENV = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_MODE": "PRODUCTION",
    "LITELLM_LOG": "ERROR",
    "LITELLM_TELEMETRY": "False",
    # Its defaults (1,000 in all, 500 a host) would not let 1,000 streams be open; 0 means 100 here.
    "AIOHTTP_CONNECTOR_LIMIT": "4096",
    "AIOHTTP_CONNECTOR_LIMIT_PER_HOST": "4096",
}


class LiteLLM:
    """One worker, a master key, no database, no Redis."""

    name = "litellm"
    title = "LiteLLM proxy"
    note = "one worker, master key, prices, no store"

    def install(self, home: Path, say: Say) -> str:
        self._home = home / "litellm"
        return venv_with(self._home, "litellm", ["litellm[proxy]"], say)

    def launch(self, folder: Path, upstream: int, port: int) -> Launch | None:
        config = folder / "litellm.yaml"
        config.write_text(json.dumps(_settings(upstream)))
        command = [str(self._home / "bin" / "litellm"), "--config", str(config)]
        command += ["--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]
        return Launch(command, port=port, env=_ENV, headers={"authorization": f"Bearer {_KEY}"})


def _settings(upstream: int) -> dict[str, object]:
    base = f"http://127.0.0.1:{upstream}/v1"
    return {
        "model_list": [
            {
                "model_name": model,
                "litellm_params": {"model": f"openai/{model}", "api_base": base, "api_key": "sk-fake"},
                # Among the parameters above, prices would be registered anew with each request.
                "model_info": {"input_cost_per_token": 0.0000025, "output_cost_per_token": 0.00001},
            }
            for model in MODELS
        ],
        "general_settings": {"master_key": _KEY},
        "litellm_settings": {"num_retries": 0, "request_timeout": 600, "telemetry": False},
    }
