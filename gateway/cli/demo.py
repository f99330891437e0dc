"""``llm-gateway demo``."""

from __future__ import annotations

import hashlib
import secrets
import tempfile
from typing import Annotated

import typer

from gateway.cli.serve import refusals, start
from gateway.settings import Settings

MODEL = "demo"


def demo(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 picks one.")] = 8080,
) -> None:
    """Start at once with nothing configured: a simulated provider in this process, one tenant, one key.

    Nothing leaves this machine, and nothing is kept when it ends.
    """
    if not host.strip():
        raise typer.BadParameter("an address is needed, such as 127.0.0.1", param_hint="--host")
    key = f"gw-demo-{secrets.token_urlsafe(24)}"
    with tempfile.TemporaryDirectory(prefix="llm-gateway-demo-") as folder:
        settings = demo_settings(host, port, key, folder)
        with refusals():
            start(settings, lambda: settings, None, lambda url: typer.echo(greeting(url, key)), "warning")


def demo_settings(host: str, port: int, key: str, data_dir: str) -> Settings:
    digest = hashlib.sha256(key.encode()).hexdigest()
    return Settings.model_validate(
        {
            "server": {"host": host, "port": port},
            "storage": {"url": "memory://", "data_dir": data_dir},
            "providers": {"simulated": {"kind": "simulated", "simulate": {"chunk_s": "0.05"}}},
            "models": {
                MODEL: {
                    "deployments": [
                        {
                            "provider": "simulated",
                            "model": "simulated-1",
                            "price": {"input_per_mtok_usd": "0.50", "output_per_mtok_usd": "1.50"},
                        }
                    ]
                }
            },
            "tenants": {"demo": {"models": ["*"], "keys": [{"id": "demo", "hash": f"sha256:{digest}"}]}},
        }
    )


def greeting(url: str, key: str) -> str:
    """What to do next; the first line is the one that ``serve`` prints, too."""
    body = f'{{"model": "{MODEL}", "messages": [{{"role": "user", "content": "Hello"}}]}}'
    return f"""listening on {url}

  base URL   {url}/v1
  API key    {key}
  model      {MODEL}

Try it (add "stream": true to see it stream; -i shows what the request cost):

  curl -i {url}/v1/chat/completions \\
    -H 'Authorization: Bearer {key}' \\
    -H 'Content-Type: application/json' \\
    -d '{body}'

Metrics are at {url}/metrics. Ctrl+C ends the demo; nothing is kept.
"""
