"""The process that has workers: a log, the address, and nothing that serves."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable

from gateway import __version__
from gateway.edge.server import listen
from gateway.edge.worker import Command
from gateway.edge.workers import Supervisor
from gateway.settings import Settings
from gateway.telemetry.log import Log


def supervise(
    settings: Settings, command: Command, announce: Callable[[str], None], log_level: str = "info"
) -> int:
    """Serves with ``server.workers`` processes until a signal ends it; the exit code. ``announce`` hears
    the URL once all of them are ready. Raises ``CannotServe``."""
    log = Log(sys.stderr.fileno(), log_level)
    restore = log.install_stdlib("warning")
    workers = settings.server.workers

    def ready(url: str) -> None:
        log.event("started", url=url, version=__version__, config=settings.digest, workers=workers)
        try:
            announce(url)
        except OSError as error:  # a full or broken standard output
            log.event("not_announced", level="warning", url=url, error=str(error))

    async def run() -> int:
        listener = listen(settings.server.host, settings.server.port)
        return await Supervisor(workers, listener, command, log.event).run(ready)

    try:
        with asyncio.Runner() as runner:
            return runner.run(run())
    finally:
        restore()
        log.close()
