"""TensorZero's gateway (Rust), from the Python wheel that holds it.

The wheel has no program, but starts its HTTP server inside a Python process for
`patch_openai_client`; this file, run by the wheel's own Python, does that and then sleeps.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .peer import Launch, Say

_MODEL = """
[models."{model}"]
routing = ["fake"]

[models."{model}".providers.fake]
type = "openai"
model_name = "{model}"
api_base = "http://127.0.0.1:{upstream}/v1/"
api_key_location = "none"
"""


class TensorZero:
    """Its embedded HTTP gateway, without ClickHouse."""

    name = "tensorzero"
    title = "TensorZero"
    note = (
        "the HTTP gateway embedded in the PyPI wheel (there is no program of its own there), "
        "run by an otherwise idle Python process, whose memory and start are included; "
        "no key, no store"
    )

    def install(self, home: Path, say: Say) -> str:
        from .peer import venv_with

        self._home = home / "tensorzero"
        return venv_with(self._home, "tensorzero", ["tensorzero"], say)

    def launch(self, folder: Path, upstream: int, port: int) -> Launch | None:
        from .peer import MODELS, Launch

        config = folder / "tensorzero.toml"
        models = "".join(_MODEL.format(model=model, upstream=upstream) for model in MODELS)
        config.write_text("[gateway]\nobservability.enabled = false\n" + models)
        return Launch(
            [str(self._home / "bin" / "python"), __file__, str(config)],
            env={"TENSORZERO_DISABLE_PSEUDONYMOUS_USAGE_ANALYTICS": "1"},
            path="/openai/v1/chat/completions",
            model_prefix="tensorzero::model_name::",
        )


def main(config: str) -> None:
    """Serve until a signal comes; prints the address."""
    from tensorzero.tensorzero import _start_http_gateway  # type: ignore[import-not-found]

    gateway = _start_http_gateway(
        config_file=config,
        clickhouse_url=None,
        postgres_url=None,
        valkey_url=None,
        async_setup=False,
    )
    print("listening on", gateway.base_url, flush=True)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    # This folder must not come first: it holds a module of the wheel's name.
    sys.path.pop(0)
    main(sys.argv[1])
