"""``llm-gateway serve``."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.settings import ConfigInvalid, Settings, load

Host = Annotated[str | None, typer.Option(help="Listen here instead of server.host.")]
Port = Annotated[
    int | None,
    typer.Option(min=0, max=65535, help="Listen there instead of server.port; 0 picks one."),
]


def serve(
    config: Annotated[Path, typer.Option("--config", "-c", help="A YAML file, or a folder of them.")],
    host: Host = None,
    port: Port = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes, instead of server.workers.")
    ] = None,
) -> None:
    """Serve with a configuration; one line `listening on …` says when requests are accepted.

    Changes of the files are taken up while serving; SIGHUP asks for it at once, SIGTERM drains.
    """
    if workers is not None and workers > 1:
        raise typer.BadParameter("more than one process is not built yet", param_hint="--workers")
    given = {"host": host, "port": port, "workers": workers}
    start(
        lambda: with_server(load(config, os.environ), given),
        config,
        lambda url: typer.echo(f"listening on {url}"),
    )


def with_server(settings: Settings, given: dict[str, Any]) -> Settings:
    """``settings`` with what the command line says of the server."""
    named = {name: value for name, value in given.items() if value is not None}
    return settings.model_copy(update={"server": settings.server.model_copy(update=named)})


def start(
    read: Callable[[], Settings],
    watched: Path | None,
    announce: Callable[[str], None],
    log_level: str = "info",
) -> None:
    """Serves, or says in readable lines why not (exit code 1)."""
    from gateway.app import RowsLost
    from gateway.serving import CannotServe, run

    try:
        run(read, watched, announce, log_level)
    except ConfigInvalid as invalid:
        for fault in invalid.faults:
            typer.echo(str(fault), err=True)
        raise typer.Exit(1) from None
    except (CannotServe, RowsLost) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None
