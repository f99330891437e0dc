"""The files of one ledger writer, one for each UTC day: appended to and synced, never rewritten."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from gateway.accounting.chain import GENESIS, Head, Tail, list_days, read_tail

Report = Callable[..., object]
"""Takes an event's name, ``level`` and fields, as ``telemetry.log.Log.event`` does."""


class DayFiles:
    """One writer's folder, for one thread. ``clock``: seconds since the epoch, names the files."""

    def __init__(self, folder: Path, clock: Callable[[], float], report: Report) -> None:
        self._folder, self._clock, self._report = folder, clock, report
        self._path: Path | None = None
        self._fd = -1
        self._durable_bytes = 0
        self._torn = False

    def recover(self) -> Head:
        """The last valid row of the newest file that has one; a torn end is moved aside first."""
        for path in reversed(list_days(self._folder)):
            tail = read_tail(path)
            if tail.valid_bytes < tail.file_bytes:
                self._move_aside(path, tail)
            if self._path is None:
                self._path, self._durable_bytes = path, tail.valid_bytes
            if tail.head is not None:
                return tail.head
        return GENESIS

    def write(self, lines: bytes) -> None:
        """Appends and syncs. After an ``OSError`` nothing of ``lines`` counts as written: the next
        call cuts off what may have reached the file, and writes anew."""
        try:
            self._roll()
            written = 0
            while written < len(lines):
                written += os.write(self._fd, lines[written:] if written else lines)
            os.fsync(self._fd)
            if os.fstat(self._fd).st_nlink == 0:
                raise OSError(f"{self._path} was removed while in use")
        except OSError:
            self._torn = True
            self.close()
            raise
        self._torn = False
        self._durable_bytes += len(lines)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _roll(self) -> None:
        """Opens the day's file; stays with the newest one when the clock was set back, and until
        what a failure left at its end is cut off."""
        name = time.strftime("%Y-%m-%d.jsonl", time.gmtime(self._clock()))
        if self._path is None or (name > self._path.name and not self._torn):
            self.close()
            self._path = self._folder / name
            self._durable_bytes = self._path.stat().st_size if self._path.exists() else 0
        if self._fd < 0:
            self._open(self._path)

    def _open(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        size = os.fstat(self._fd).st_size
        if size > self._durable_bytes:
            os.ftruncate(self._fd, self._durable_bytes)
        elif size < self._durable_bytes:
            lost_bytes = self._durable_bytes - size
            self._report("ledger_shrunk", level="error", file=str(path), lost_bytes=lost_bytes)
            self._durable_bytes = size
        _sync_folder(self._folder)

    def _move_aside(self, path: Path, tail: Tail) -> None:
        aside = path.with_name(path.name + ".torn")
        with path.open("r+b") as file, aside.open("ab") as torn:
            file.seek(tail.valid_bytes)
            torn.write(file.read())
            torn.flush()
            os.fsync(torn.fileno())
            _sync_folder(self._folder)
            file.truncate(tail.valid_bytes)
            os.fsync(file.fileno())
        torn_bytes = tail.file_bytes - tail.valid_bytes
        self._report("ledger_torn", level="warning", file=str(aside), torn_bytes=torn_bytes)


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
