"""``llm-gateway keys``."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from typing import Annotated

import typer

keys = typer.Typer(help="Virtual keys.", no_args_is_help=True, rich_markup_mode=None)

_NAME = re.compile(r"[A-Za-z0-9._:/-]{1,64}")
_ID_BYTES = 4
_SECRET_BYTES = 32


@keys.callback()
def _top() -> None:
    """Virtual keys: what apps present instead of a provider's credential."""


@keys.command()
def new(
    tenant: Annotated[str, typer.Option(help="The tenant that the key is for.")],
    id: Annotated[
        str | None, typer.Option(help="Name of the key in ledger and metrics; default: random.")
    ] = None,
) -> None:
    """Make a key: the secret for the app, which is shown this once, and the line for the configuration."""
    name = id if id is not None else f"key-{secrets.token_hex(_ID_BYTES)}"
    for option, value in (("--tenant", tenant), ("--id", name)):
        if not _NAME.fullmatch(value):
            raise typer.BadParameter("use 1 to 64 letters, digits or ._:/-", param_hint=option)
    secret = f"gw-{secrets.token_urlsafe(_SECRET_BYTES)}"
    digest = hashlib.sha256(secret.encode()).hexdigest()
    typer.echo(f"secret, shown this once: {secret}")
    typer.echo(f"paste this under tenants.{tenant}.keys:")
    typer.echo(f'  - {{id: {json.dumps(name)}, hash: "sha256:{digest}"}}')
