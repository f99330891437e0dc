"""``llm-gateway worker``: one of several processes that serve; ``serve`` starts them, nobody else does."""

from __future__ import annotations

import hashlib
import os
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.serve import Config, Host, Port, Workers, start, with_server
from gateway.settings import ConfigInvalid, Settings, load

if TYPE_CHECKING:
    from gateway.edge.worker import Command

FIXED = "LLM_GATEWAY_FIXED"
"""In the environment: who looks at the command could try passwords of the store against a digest."""

Descriptor = Annotated[int, typer.Option(min=3)]


def worker(
    config: Config,
    number: Annotated[int, typer.Option(min=1)],
    listener: Descriptor,
    line: Descriptor,
    fixed: Annotated[str, typer.Option(envvar=FIXED)],
    host: Host = None,
    port: Port = None,
    workers: Workers = None,
) -> None:
    """One of the processes that `serve` starts when server.workers is more than one."""
    from gateway.edge.line import Line
    from gateway.edge.server import CannotServe
    from gateway.serving import Place

    given = {"host": host, "port": port, "workers": workers}

    def read() -> Settings:
        return with_server(load(config, os.environ), given)

    os.set_inheritable(listener, False)
    place = Place(socket.socket(fileno=listener), Line(number, line))
    try:
        settings = read()
        if fixed_part(settings) != fixed:
            raise CannotServe(
                "server.host, port, workers or storage are not what they were when the gateway was started;"
                " undo the change of the files, or restart the gateway"
            )
        start(settings, read, config, lambda url: place.line.ready(), place=place)
    except ConfigInvalid as invalid:
        place.line.refuse([str(fault) for fault in invalid.faults])
        raise typer.Exit(1) from None
    except CannotServe as error:
        place.line.refuse([str(error)])
        raise typer.Exit(1) from None


def command(config: Path, given: dict[str, Any], settings: Settings) -> Command:
    """What to run for a worker, in the environment of this process. The folder that the user happens to be
    in is no place for our code, unless this process has its own from there."""
    path = [] if str(Path.cwd()) in sys.path else ["-P"]
    options = [f"--{name}={value}" for name, value in given.items() if value is not None]
    words = [sys.executable, *path, "-m", "gateway", "worker", f"--config={config}", *options]
    os.environ[FIXED] = fixed_part(settings)

    def of(number: int, listener: int, line: int) -> list[str]:
        return [*words, f"--number={number}", f"--listener={listener}", f"--line={line}"]

    return of


def fixed_part(settings: Settings) -> str:
    """A digest of what must be the same for all workers, whenever they were started."""
    server, storage = settings.server, settings.storage
    parts = (server.host, server.port, server.workers, storage.url.get_secret_value(), storage.data_dir)
    return hashlib.sha256(repr(parts).encode()).hexdigest()
