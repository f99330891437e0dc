"""One process from start to end: settings, log, loop, application, server."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Callable
from pathlib import Path

import uvloop

from gateway import __version__
from gateway.accounting.writer import WriterLocked
from gateway.app import App, Load, secrets_of
from gateway.edge.protocol import Rim
from gateway.edge.server import GatewayServer, Lifecycle, bind
from gateway.errors import GatewayError
from gateway.exchange import Operation
from gateway.settings import Settings
from gateway.telemetry.log import Log
from gateway.telemetry.metrics import OTHER

Announce = Callable[[str], None]

GC_THRESHOLDS = (50_000, 20, 50)
"""Requests make few cycles: the collector runs less often than Python's default."""


class CannotServe(Exception):
    """Why the process cannot start, in one sentence."""


def run(load: Load, watched: Path | None, announce: Announce) -> None:
    """Serves until a signal ends it. ``announce`` hears the URL once requests are accepted.

    Raises ``ConfigInvalid`` and ``CannotServe`` before anything is served.
    """
    settings = load()
    log = Log(sys.stderr.fileno())
    log.set_secrets(secrets_of(settings))
    restore = log.install_stdlib("warning")
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(settings, load, watched, announce, log))
    finally:
        restore()
        log.close()


async def _serve(
    settings: Settings, load: Load, watched: Path | None, announce: Announce, log: Log
) -> None:
    host, port = settings.server.host, settings.server.port
    try:
        listener = bind(host, port)
    except OSError as error:
        raise CannotServe(f"cannot listen on {host}:{port}: {error.strerror or error}") from None
    try:
        app = App(settings, load, watched, log)
    except WriterLocked as error:
        listener.close()
        raise CannotServe(str(error)) from None
    except OSError as error:
        listener.close()
        raise CannotServe(f"cannot keep the ledger in {settings.storage.data_dir}: {error}") from None

    def ready(url: str) -> None:
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        log.event("started", url=url, version=__version__, config=settings.digest)
        announce(url)

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
    await GatewayServer(app.asgi, _rim(app, log), lifecycle).serve([listener])


def _rim(app: App, log: Log) -> Rim:
    def refused(error: GatewayError, request_id: str) -> None:
        app.metrics.refused(Operation.NONE.value, "refused", error.code, OTHER)
        log.event("request", request_id=request_id, outcome="refused", status=error.status, code=error.code)

    def failed(event: str, error: BaseException, request_id: str) -> None:
        log.failure(event, error, request_id=request_id)

    return Rim(refused=refused, failed=failed)
