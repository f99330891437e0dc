"""A writer's identity: one folder of the ledger, held by one process at a time."""

from __future__ import annotations

import fcntl
import os
import re
import secrets
from pathlib import Path

_WRITER_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_LOCK_FILE = "lock"


class WriterLocked(RuntimeError):
    """Another process is this writer."""


class FolderLock:
    """The exclusive lock on ``folder``, which is made if need be; ends with ``release()`` or with the
    process. Raises ``WriterLocked`` with ``taken`` if another holds it, ``OSError`` where the folder cannot
    be made."""

    def __init__(self, folder: Path, taken: str) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._fd = os.open(folder / _LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self.release()
            raise WriterLocked(taken) from error

    def release(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class WriterLock(FolderLock):
    """The exclusive lock on ``<ledger>/<writer>``; ends with ``release()`` or with the process.

    Raises ``WriterLocked`` if another holds it, ``ValueError`` for an id that is not 1–64 of
    ``[A-Za-z0-9_-]``, ``OSError`` where the folder cannot be made.
    """

    def __init__(self, ledger: Path, writer: str) -> None:
        if not _WRITER_ID.fullmatch(writer):
            raise ValueError(f"{writer!r} is not a writer id")
        self.writer = writer
        self.folder = ledger / writer
        super().__init__(self.folder, f"ledger writer {writer!r} in {ledger} is in use by another process")


def claim_writer(data_dir: Path) -> tuple[str, WriterLock]:
    """The first writer under ``data_dir/ledger`` that no process holds, else a new one.

    So a restarted process carries on its own chain, and ``n`` workers come to ``n`` folders.
    """
    ledger = data_dir / "ledger"
    known = sorted(path.name for path in ledger.glob("*/") if _WRITER_ID.fullmatch(path.name))
    for writer in known:
        try:
            return writer, WriterLock(ledger, writer)
        except WriterLocked:
            continue
    writer = f"w-{secrets.token_hex(4)}"
    return writer, WriterLock(ledger, writer)
