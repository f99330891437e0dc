"""One process from start to end: settings, log, loop, application, server."""

from __future__ import annotations

import asyncio
import gc
import resource
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvloop

from gateway import __version__
from gateway.accounting.pricing import PriceTableError
from gateway.accounting.writer import WriterLocked
from gateway.app import App, Load, secrets_of
from gateway.control.memory import Pressure
from gateway.edge.line import Line, Order
from gateway.edge.rim import MAX_CONNECTIONS, Rim
from gateway.edge.server import CannotServe, GatewayServer, Lifecycle, listen
from gateway.errors import GatewayError
from gateway.exchange import Operation
from gateway.privacy.interface import DetectorUnusable
from gateway.settings import Settings
from gateway.storage.interface import StoreRefused
from gateway.telemetry.log import Log
from gateway.telemetry.metrics import OTHER

Announce = Callable[[str], None]

RESERVED_FILES = 100
"""For the ledger, the log, listeners and what libraries open."""
FEW_CONNECTIONS = 1000
GC_THRESHOLDS = (50_000, 20, 50)
"""Requests make few cycles: the collector runs less often than Python's default."""


@dataclass(slots=True, frozen=True)
class Place:
    """Of a worker among others: the socket that all of them accept from, and its line to their parent."""

    listener: socket.socket
    line: Line


def run(
    settings: Settings,
    load: Load,
    watched: Path | None,
    announce: Announce,
    log_level: str = "info",
    place: Place | None = None,
) -> None:
    """Serves until a signal ends it. ``announce`` hears the URL once requests are accepted.

    ``load`` reads the configuration again. Raises ``CannotServe`` before anything is served,
    ``RowsLost`` after it.
    """
    log = Log(sys.stderr.fileno(), log_level)
    log.set_secrets(secrets_of(settings))
    restore = log.install_stdlib("warning")
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(settings, load, watched, announce, log, place))
    finally:
        restore()
        log.close()


async def _serve(
    settings: Settings,
    load: Load,
    watched: Path | None,
    announce: Announce,
    log: Log,
    place: Place | None,
) -> None:
    line = None if place is None else place.line
    listener = place.listener if place else listen(settings.server.host, settings.server.port)
    if line is not None:
        await line.open()
    try:
        app = App(settings, load, watched, log, line)
        await app.connect()
    except (WriterLocked, PriceTableError, StoreRefused, DetectorUnusable) as error:
        listener.close()
        raise CannotServe(str(error)) from None
    except OSError as error:
        listener.close()
        raise CannotServe(f"cannot keep the ledger in {settings.storage.data_dir}: {error}") from None

    def ready(url: str) -> None:
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        which: dict[str, Any] = {} if line is None else {"worker": line.number}
        log.event("started", url=url, version=__version__, config=settings.digest, **which)
        try:
            announce(url)
        except OSError as error:  # a full or broken standard output
            log.event("not_announced", level="warning", url=url, error=str(error))

    lifecycle = Lifecycle(
        start=app.start,
        ready=ready,
        reload=app.reload,
        drain=app.drain,
        end_running=app.end_running,
        stop=app.stop,
        pre_stop_s=settings.server.pre_stop_s,
        drain_s=settings.server.drain_s,
    )
    server = GatewayServer(app.asgi, _rim(app, log), lifecycle)
    if line is not None:
        line.obey = _obedience(server, app)
    await server.serve([listener])


def _obedience(server: GatewayServer, app: App) -> Callable[[Order], None]:
    """An order to drain that comes beside a signal to this process is no second one."""

    def obey(order: Order) -> None:
        if order == "reload":
            app.reload()
        else:
            server.stop(hurry=order == "hurry")

    return obey


def _rim(app: App, log: Log) -> Rim:
    def refused(error: GatewayError, request_id: str) -> None:
        app.metrics.refused(Operation.NONE.value, "refused", error.code, OTHER)
        log.event("request", request_id=request_id, outcome="refused", status=error.status, code=error.code)

    def failed(event: str, error: BaseException, request_id: str) -> None:
        log.failure(event, error, request_id=request_id)

    most = connections_for(_raise_file_limit())
    if most < FEW_CONNECTIONS:
        log.event("few_connections", level="warning", most=most, remedy="raise the limit on open files")
    return Rim(
        refused=refused,
        failed=failed,
        max_connections=most,
        keeps=lambda: app.memory.pressure < Pressure.CLOSE,
        accepts=lambda: app.memory.pressure < Pressure.REFUSE,
    )


def connections_for(files: int) -> int:
    """Client connections that ``files`` open files allow: each may need one to a provider, and those
    that are refused need one until they have heard of it."""
    return min(MAX_CONNECTIONS, max((files - RESERVED_FILES) // 3, 1))


def _raise_file_limit() -> int:
    """The number of files that may be open; raised as far as the system lets us."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 3 * MAX_CONNECTIONS + RESERVED_FILES
    if soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return soft
