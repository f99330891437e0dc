"""``llm-gateway serve``."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.settings import ConfigInvalid, Settings, load
from gateway.settings.rules import WORKERS_NEED_A_STORE

if TYPE_CHECKING:
    from gateway.serving import Place

Config = Annotated[Path, typer.Option("--config", "-c", help="A YAML file, or a folder of them.")]
Host = Annotated[str | None, typer.Option(help="Listen here instead of server.host.")]
Port = Annotated[
    int | None,
    typer.Option(min=0, max=65535, help="Listen there instead of server.port; 0 picks one."),
]
Workers = Annotated[
    int | None,
    typer.Option(min=1, help="Processes, instead of server.workers; more than one need a Redis."),
]


def serve(config: Config, host: Host = None, port: Port = None, workers: Workers = None) -> None:
    """Serve with a configuration; one line `listening on …` says when requests are accepted.

    Changes of the files are taken up while serving; SIGHUP asks for it at once, SIGTERM drains.
    """
    given = {"host": host, "port": port, "workers": workers}

    def read() -> Settings:
        return with_server(load(config, os.environ), given)

    def announce(url: str) -> None:
        typer.echo(f"listening on {url}")

    with refusals():
        settings = read()
        if settings.server.workers == 1:
            start(settings, read, config, announce)
            return
        if settings.storage.url.get_secret_value().startswith("memory://"):
            raise typer.BadParameter(WORKERS_NEED_A_STORE, param_hint="--workers")
        from gateway.cli.worker import command
        from gateway.supervising import supervise

        raise typer.Exit(supervise(settings, command(config, given, settings), announce))


def with_server(settings: Settings, given: dict[str, Any]) -> Settings:
    """``settings`` with what the command line says of the server."""
    named = {name: value for name, value in given.items() if value is not None}
    return settings.model_copy(update={"server": settings.server.model_copy(update=named)})


def start(
    settings: Settings,
    read: Callable[[], Settings],
    watched: Path | None,
    announce: Callable[[str], None],
    log_level: str = "info",
    place: Place | None = None,
) -> None:
    """Serves in this process. Raises ``CannotServe``, and ``Exit`` when the ledger could not be written."""
    from gateway.app import RowsLost
    from gateway.serving import run

    try:
        run(settings, read, watched, announce, log_level, place)
    except RowsLost as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None


@contextmanager
def refusals() -> Iterator[None]:
    """Says in readable lines why something cannot be served (exit code 1)."""
    from gateway.edge.server import CannotServe

    try:
        yield
    except ConfigInvalid as invalid:
        for fault in invalid.faults:
            typer.echo(str(fault), err=True)
        raise typer.Exit(1) from None
    except CannotServe as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None
