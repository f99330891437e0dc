"""``llm-gateway kill``."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

import typer

from gateway.cli.admin_client import DEFAULT_URL, AdminClient, Token, Url

kill = typer.Typer(help="Kill switches of a running gateway.", no_args_is_help=True, rich_markup_mode=None)

SCOPES = ("all", "tenant", "key", "feature", "model", "provider", "deployment")

Scope = Annotated[str, typer.Argument(help=f"What is stopped: {', '.join(SCOPES)}.")]
Name = Annotated[
    str, typer.Argument(help="Which one; of a key tenant/key-id. None for all.", show_default=False)
]


@kill.callback()
def _top() -> None:
    """Kill switches: stop a tenant, a key, a feature, a model, a provider, a deployment, or all of them."""


@kill.command()
def on(
    scope: Scope,
    name: Name = "",
    *,
    reason: Annotated[str, typer.Option(help="Why; those who are stopped read it.")],
    expires_s: Annotated[
        float | None, typer.Option("--expires-s", help="Seconds after which it is off by itself.")
    ] = None,
    cut_streams: Annotated[bool, typer.Option("--cut-streams", help="End what runs already, too.")] = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Stop something, from the next request on."""
    order = {"reason": reason, "expires_s": expires_s, "cut_streams": cut_streams}
    switch = AdminClient(url, token).call("PUT", _path(scope, name), json=order)
    typer.echo(f"on: {_what(switch)}")
    if not switch["known"]:
        typer.echo(f"note: nothing here has this name at the moment; check {scope} {name!r}", err=True)
    _note_shared(switch)


@kill.command()
def off(scope: Scope, name: Name = "", *, url: Url = DEFAULT_URL, token: Token = None) -> None:
    """Let something go on."""
    switch = AdminClient(url, token).call("DELETE", _path(scope, name))
    typer.echo(f"off: {_what(switch)}")
    _note_shared(switch)


@kill.command("list")
def list_(*, url: Url = DEFAULT_URL, token: Token = None) -> None:
    """List what is stopped."""
    switches = AdminClient(url, token).get("kill-switches")["data"]
    for one in switches:
        until = f" until {one['expires']}" if one["expires"] else ""
        where = " (in the configuration)" if one["source"] == "file" else ""
        typer.echo(f"{_what(one)} since {one['since']}{until}{where}: {one['reason']}")
    if not switches:
        typer.echo("nothing is stopped")


def _path(scope: str, name: str) -> str:
    if scope not in SCOPES:
        raise typer.BadParameter(f"use one of {', '.join(SCOPES)}", param_hint="SCOPE")
    if (scope == "all") == bool(name):
        wanted = "the scope all takes no name" if name else f"say which {scope} is meant"
        raise typer.BadParameter(wanted, param_hint="NAME")
    return f"kill-switches/{scope}/{quote(name)}" if name else f"kill-switches/{scope}"


def _what(switch: dict[str, str]) -> str:
    return f"{switch['scope']} {switch['name']}".rstrip()


def _note_shared(switch: dict[str, bool]) -> None:
    if not switch["shared"]:
        typer.echo("note: the store is away; other processes hear of it when it is back", err=True)
