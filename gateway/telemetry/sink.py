"""Lines to a file descriptor by a thread: whoever puts a line never waits and never fails."""

from __future__ import annotations

import os
import select
import stat
import threading
from collections import deque
from collections.abc import Callable

_BATCH_BYTES = 1 << 18
_PAUSE_S = 0.02
_BROKEN_PAUSE_S = 0.2


class LineSink:
    """Writes whole lines to ``fd`` in batches, at most every 20 ms; those of several processes do not mix
    in a pipe as long as none is longer than ``PIPE_BUF``.

    ``notice``: makes the line that tells how many lines were dropped since the last such line.
    """

    def __init__(self, fd: int, max_lines: int, max_bytes: int, notice: Callable[[int], bytes]) -> None:
        self.dropped = 0
        self._fd, self._notice = fd, notice
        self._most = select.PIPE_BUF if _is_pipe(fd) else _BATCH_BYTES
        self._max_lines, self._max_bytes = max_lines, max_bytes
        self._lines: deque[bytes] = deque()
        self._bytes = 0
        self._told = 0
        self._inside_line = False
        self._lock = threading.Lock()
        self._wake, self._closing = threading.Event(), threading.Event()
        self._abandoned = False
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def put(self, line: bytes) -> None:
        """Queues a line that ends in a newline, or drops and counts it."""
        with self._lock:
            full = len(self._lines) >= self._max_lines or self._bytes + len(line) > self._max_bytes
            if full or self._closing.is_set():
                self.dropped += 1
                return
            self._lines.append(line)
            self._bytes += len(line)
        if not self._wake.is_set():
            self._wake.set()

    def close(self, timeout_s: float) -> None:
        """Writes what is queued, for up to ``timeout_s``; what is left then counts as dropped."""
        self._closing.set()
        self._wake.set()
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            self._abandoned = True
            with self._lock:
                self.dropped += len(self._lines)
                self._lines.clear()

    def _run(self) -> None:
        while batch := self._take():
            lost = self._write(batch) if self._tell() else batch
            if lost:
                with self._lock:
                    self.dropped += lost.lstrip(b"\n").count(b"\n")
            self._closing.wait(_BROKEN_PAUSE_S if lost else _PAUSE_S)
        self._tell()

    def _take(self) -> bytes:
        """The next lines, when there are any; nothing when the sink is closed and empty."""
        while not self._lines:
            self._wake.clear()
            if self._lines:
                break
            if self._closing.is_set():
                return b""
            self._wake.wait()
        batch = bytearray()
        with self._lock:
            while self._lines and len(batch) < _BATCH_BYTES:
                batch += self._lines.popleft()
            self._bytes -= len(batch)
        return bytes(batch)

    def _tell(self) -> bool:
        """Says how many lines were dropped since it last did; False if the sink is broken."""
        missed = self.dropped - self._told
        if missed and self._write(self._notice(missed)):
            return False
        self._told += missed
        return True

    def _write(self, lines: bytes) -> bytes:
        """Writes lines, the first on a new one; returns what a broken sink did not take."""
        rest = b"\n" + lines if self._inside_line else lines
        while rest:
            try:
                written = os.write(self._fd, rest[: self._whole(rest)])
            except BlockingIOError:
                if not self._wait_writable():
                    return rest
                continue
            except OSError:
                return rest
            self._inside_line = rest[written - 1] != ord("\n")
            rest = rest[written:]
        return b""

    def _whole(self, lines: bytes) -> int:
        """The size of the first lines that may be written at once."""
        if len(lines) <= self._most:
            return len(lines)
        end = lines.rfind(b"\n", 0, self._most) + 1
        return end or lines.find(b"\n") + 1 or len(lines)

    def _wait_writable(self) -> bool:
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        while not poll.poll(100):
            if self._abandoned:
                return False
        return True


def _is_pipe(fd: int) -> bool:
    try:
        return stat.S_ISFIFO(os.fstat(fd).st_mode)
    except OSError:
        return False
