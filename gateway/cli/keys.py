"""``llm-gateway keys``."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from typing import Annotated, Any
from urllib.parse import quote

import typer

from gateway.cli.admin_client import DEFAULT_URL, AdminClient, Token, Url
from gateway.control.keys import read_expiry

keys = typer.Typer(help="Virtual keys.", no_args_is_help=True, rich_markup_mode=None)

_NAME = re.compile(r"[A-Za-z0-9._:/-]{1,64}")
_ID_BYTES = 4
_SECRET_BYTES = 32

Tenant = Annotated[str, typer.Option(help="The tenant that the key is for.")]
KeyId = Annotated[str, typer.Argument(help="The key's id.")]
NewId = Annotated[str | None, typer.Option(help="Name of the key in ledger and metrics; default: random.")]
Expires = Annotated[
    str | None, typer.Option(help="A last day such as 2027-01-31 (UTC), or a time 2027-01-31T18:00:00Z.")
]
Models = Annotated[
    list[str] | None, typer.Option("--model", help="A model that it may use; repeat for several.")
]


@keys.callback()
def _top() -> None:
    """Virtual keys: what apps present instead of a provider's credential."""


@keys.command()
def new(
    tenant: Tenant,
    id: NewId = None,
    expires: Expires = None,
    model: Models = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse it when revocations may not have been heard of.")
    ] = False,
    url: Annotated[
        str | None, typer.Option(help="Base URL of a running gateway, to make the key there at once.")
    ] = None,
    token: Token = None,
) -> None:
    """Make a key: the secret for the app, which is shown this once, and the line for the configuration.

    With --url a running gateway makes it, and it works at once.
    """
    for option, value in (("--tenant", tenant), ("--id", id)):
        if value is not None and not _NAME.fullmatch(value):
            raise typer.BadParameter("use 1 to 64 letters, digits or ._:/-", param_hint=option)
    _check_expiry(expires)
    if url is not None:
        order = {"id": id, "expires": expires, "models": model or None, "strict": strict}
        _show_new(AdminClient(url, token).call("POST", _path(tenant), json=order))
        return
    entry: dict[str, Any] = {"id": id if id is not None else f"key-{secrets.token_hex(_ID_BYTES)}"}
    secret = f"gw-{secrets.token_urlsafe(_SECRET_BYTES)}"
    entry["hash"] = f"sha256:{hashlib.sha256(secret.encode()).hexdigest()}"
    entry |= {"expires": expires} if expires is not None else {}
    entry |= {"models": model} if model else {}
    entry |= {"strict": True} if strict else {}
    typer.echo(f"secret, shown this once: {secret}")
    typer.echo(f"paste this under tenants.{tenant}.keys:")
    typer.echo(f"  - {{{', '.join(f'{name}: {json.dumps(value)}' for name, value in entry.items())}}}")


@keys.command("list")
def list_(tenant: Tenant, url: Url = DEFAULT_URL, token: Token = None) -> None:
    """List a tenant's keys, of the configuration and of the API."""
    found = AdminClient(url, token).get(_path(tenant))["data"]
    for one in found:
        state = f"revoked {one['revoked']}" if one["revoked"] else "works"
        if one["expires"] and not one["revoked"]:
            state = f"until {one['expires']}"
        typer.echo(f"{one['id']}  …{one['hash_ends']}  {one['source']}  {state}")
    if not found:
        typer.echo(f"the tenant {tenant} has no key")


@keys.command()
def revoke(
    id: KeyId,
    tenant: Tenant,
    cut_streams: Annotated[bool, typer.Option("--cut-streams", help="End what runs with it, too.")] = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Revoke a key for good, from the next request on."""
    params = {"owner": tenant} | ({"cut_streams": "true"} if cut_streams else {})
    key = AdminClient(url, token).call("DELETE", f"{_path(tenant)}/{quote(id)}", params=params)
    typer.echo(f"revoked: {tenant} {key['id']}")
    if not key["shared"]:
        typer.echo("note: the store is away; other processes hear of it when it is back", err=True)


@keys.command()
def rotate(
    id: KeyId,
    tenant: Tenant,
    new_id: NewId = None,
    overlap_s: Annotated[
        float, typer.Option("--overlap-s", help="Seconds for which the old key still works.")
    ] = 3600.0,
    expires: Expires = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Make a key that replaces another one, which expires a while later."""
    _check_expiry(expires)
    order = {"id": new_id, "rotate": id, "overlap_s": overlap_s, "expires": expires}
    _show_new(AdminClient(url, token).call("POST", _path(tenant), json=order))


def _check_expiry(expires: str | None) -> None:
    if expires is not None:
        try:
            read_expiry(expires)
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="--expires") from None


def _path(tenant: str) -> str:
    return f"tenants/{quote(tenant)}/keys"


def _show_new(key: dict[str, Any]) -> None:
    typer.echo(f"secret, shown this once: {key['secret']}")
    until = f", until {key['expires']}" if key["expires"] else ""
    typer.echo(f"key {key['id']} of {key['tenant']} works from now on{until}")
    if key["replaces"]:
        typer.echo(f"the key {key['replaces']} expires when the overlap is over")
