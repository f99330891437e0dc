"""Configuration that changes while serving: noticed, validated whole, then swapped at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from gateway.accounting.pricing import PriceTableError
from gateway.privacy.interface import DetectorUnusable
from gateway.settings import ConfigInvalid, Settings
from gateway.tasks import Tasks
from gateway.telemetry.log import Log
from gateway.telemetry.metrics import Metrics

POLL_S = 0.5

Stamp = tuple[tuple[str, int, int, int], ...]


def stamp(path: Path) -> Stamp:
    """What changes when a file of the configuration does: names, inodes, sizes and times.

    Polled rather than subscribed to: mounted volumes and bind mounts do not always send events.
    """
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    seen = []
    for file in files:
        try:
            stat = file.stat()
        except OSError:
            continue  # between two renames; the next poll sees it
        seen.append((file.name, stat.st_ino, stat.st_size, stat.st_mtime_ns))
    return tuple(seen)


class ConfigWatch:
    """Calls ``changed`` (which must not raise) soon after files have changed and are quiet again."""

    def __init__(self, path: Path, changed: Callable[[], None]) -> None:
        self._path = path
        self._changed = changed
        self._seen = self._look()

    def _look(self) -> Stamp:
        try:
            return stamp(self._path)
        except OSError:
            return ()

    def mark(self) -> None:
        """The files are about to be read: only what changes from now on is a change."""
        self._seen = self._look()

    async def run(self) -> None:
        last = self._seen
        while True:
            await asyncio.sleep(POLL_S)
            now = self._look()
            if now != self._seen and now == last:
                self._changed()
            last = now


class RestartNeeded(Exception):
    """A valid configuration that cannot be taken up while serving."""


def check_restart(old: Settings, new: Settings) -> None:
    """Raises ``RestartNeeded`` for a change that a running process cannot make."""
    changed = [
        f"server.{name}"
        for name in ("host", "port", "workers")
        if getattr(old.server, name) != getattr(new.server, name)
    ]
    if old.storage != new.storage:
        changed.append("storage")
    if old.privacy.processes != new.privacy.processes:
        changed.append("privacy.processes")
    if changed:
        raise RestartNeeded(f"needs restart: {', '.join(changed)} cannot change while serving")


class Reload:
    """One change at a time. ``load`` reads the configuration in another thread, ``adopt`` swaps it in; they
    raise ``ConfigInvalid``, ``PriceTableError``, ``DetectorUnusable`` and ``RestartNeeded`` where they
    cannot. ``rejected``: why the last one was not taken up, for readiness, which is public: what is wrong
    stands in the log.
    """

    def __init__(
        self,
        load: Callable[[], Settings],
        path: Path | None,
        adopt: Callable[[Settings], None],
        tasks: Tasks,
        log: Log,
        metrics: Metrics,
    ) -> None:
        self.rejected: str | None = None
        self._load = load
        self._adopt = adopt
        self._tasks = tasks
        self._log = log
        self._metrics = metrics
        self._watch = None if path is None else ConfigWatch(path, self.ask)
        self._running: asyncio.Task[None] | None = None
        self._asked = False

    def start(self) -> None:
        if self._watch is not None:
            self._tasks.keep(self._watch.run, "configuration watch")

    def ask(self) -> None:
        """Takes up the files as they are now, in the background."""
        self._asked = True
        if self._running is None or self._running.done():
            self._running = self._tasks.spawn(self._while_asked(), "reload")

    async def _while_asked(self) -> None:
        while self._asked:
            self._asked = False
            if self._watch is not None:
                self._watch.mark()
            await self._once()

    async def _once(self) -> None:
        try:
            settings = await asyncio.to_thread(self._load)
            self._adopt(settings)
        except ConfigInvalid as invalid:
            places = [f"{Path(one.file).name}:{one.line}: {one.key_path}" for one in invalid.faults]
            self._reject("; ".join(places), [str(fault) for fault in invalid.faults])
            return
        except (RestartNeeded, PriceTableError, DetectorUnusable) as error:
            self._reject(str(error), [str(error)])
            return
        self.rejected = None
        self._metrics.config_reloads.child("ok").inc()
        self._log.event("config_reloaded", hash=settings.digest)

    def _reject(self, public: str, faults: list[str]) -> None:
        self.rejected = public
        self._metrics.config_reloads.child("rejected").inc()
        for fault in faults:
            self._log.event("config_rejected", level="error", fault=fault)
