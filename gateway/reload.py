"""Configuration that changes while serving: noticed, validated whole, then swapped at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

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
