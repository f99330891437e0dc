"""Latency at a fixed rate: an open loop, so that a slow answer delays no later request.

A request's latency runs from the moment it was *due*, not from when it could be sent; that is what
keeps waiting time from being omitted. Sockets and `select`, not an event loop: its timers have
microseconds, libuv's have milliseconds.
"""

from __future__ import annotations

import ctypes
import gc
import select
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import quantiles

from .wire import Target, read_answer

_PR_SET_TIMERSLACK = 29
_SPIN_NS = 60_000
_MOST_IN_FLIGHT = 200
_GRACE_NS = 2_000_000_000


@dataclass
class Latencies:
    """What an open loop saw. ``overloaded``: answers fell so far behind that it gave up."""

    microseconds: list[float] = field(default_factory=list)
    errors: int = 0
    overloaded: bool = False

    def percentile(self, percent: int) -> float | None:
        """In microseconds; None without two samples."""
        if len(self.microseconds) < 2:
            return None
        return quantiles(self.microseconds, n=100, method="inclusive")[percent - 1]


class OpenLoop:
    """Sends `request` at ``rate`` a second for ``seconds``, each on an idle connection."""

    def __init__(self, target: Target, rate: int, seconds: float) -> None:
        self._address = ("127.0.0.1", target.port)
        self._request = target.request("bench")
        self._interval_ns = 1_000_000_000 // rate
        self._count = int(rate * seconds)
        self._idle: list[socket.socket] = []
        self._flying: dict[socket.socket, tuple[int, bytes]] = {}
        self._seen = Latencies()

    def run(self) -> Latencies:
        """The latencies; those without an answer 2 s after the last request are errors."""
        with _exact_timing():
            try:
                self._send_all()
                self._collect_until(time.perf_counter_ns() + _GRACE_NS, until_empty=True)
            finally:
                self._close()
        return self._seen

    def _send_all(self) -> None:
        start = time.perf_counter_ns() + self._interval_ns
        for number in range(self._count):
            due = start + number * self._interval_ns
            self._collect_until(due)
            if len(self._flying) >= _MOST_IN_FLIGHT:
                self._seen.overloaded = True
                return
            self._send(due)

    def _send(self, due: int) -> None:
        connection = self._idle.pop() if self._idle else self._connect()
        try:
            connection.send(self._request)
            self._flying[connection] = (due, b"")
        except OSError:
            self._fail(connection)

    def _connect(self) -> socket.socket:
        connection = socket.create_connection(self._address, 5)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setblocking(False)
        return connection

    def _collect_until(self, deadline: int, until_empty: bool = False) -> None:
        while (left := deadline - time.perf_counter_ns()) > 0:
            if until_empty and not self._flying:
                return
            wait_s = max(0, left - _SPIN_NS) / 1e9
            for connection in select.select(list(self._flying), (), (), wait_s)[0]:
                self._receive(connection)

    def _receive(self, connection: socket.socket) -> None:
        due, data = self._flying[connection]
        try:
            part = connection.recv(65536)
        except OSError:
            part = b""
        now = time.perf_counter_ns()
        answer = read_answer(data + part) if part else None
        if not part:
            self._fail(connection)
        elif answer is None:
            self._flying[connection] = (due, data + part)
        else:
            del self._flying[connection]
            self._idle.append(connection)
            self._seen.microseconds.append((now - due) / 1000)
            self._seen.errors += not answer.good

    def _fail(self, connection: socket.socket) -> None:
        self._flying.pop(connection, None)
        connection.close()
        self._seen.errors += 1

    def _close(self) -> None:
        if not self._seen.overloaded:
            self._seen.errors += len(self._flying)
        for connection in [*self._flying, *self._idle]:
            connection.close()


@contextmanager
def _exact_timing() -> Iterator[None]:
    """No garbage collection, and sleeps that end when they should (default: 50 µs later)."""
    prctl = ctypes.CDLL(None).prctl
    gc.collect()
    gc.disable()
    prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)
    try:
        yield
    finally:
        prctl(_PR_SET_TIMERSLACK, 0, 0, 0, 0)
        gc.enable()
