"""The client's side of one exchange."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from gateway.edge.cycle import Cycle, Headers
from gateway.interrupt import Reason

SILENCE_S = 15.0
COMMENT = b": keep-alive\n\n"


class CycleSink:
    """Writes the answer. ``start`` and ``finish`` come once each, ``send`` in between.

    ``send`` returns when the client has room for more. Once the client is gone nothing is written and
    nothing waits: the interrupt that ``on_gone`` fires ends the exchange.
    """

    __slots__ = ("_cycle", "_head", "_last_s", "_timer")

    def __init__(self, cycle: Cycle) -> None:
        self._cycle = cycle
        self._head: Callable[[], Headers] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._last_s = 0.0

    @property
    def started(self) -> bool:
        return self._cycle.started

    @property
    def gone(self) -> bool:
        return self._cycle.gone

    def on_gone(self, fire: Callable[[Reason], None]) -> None:
        self._cycle.on_gone(lambda: fire(Reason.CLIENT_GONE))

    async def start(self, status: int, headers: Headers) -> None:
        self._cycle.start(status, headers)

    async def send(self, payload: bytes) -> None:
        self._last_s = time.monotonic()
        self._cycle.write(payload)
        if self._cycle.write_paused:
            await self._cycle.room()

    async def finish(self, payload: bytes = b"") -> None:
        self.close()
        if not self._cycle.gone:
            self._cycle.end(payload)

    def close(self) -> None:
        """Nothing more is written by itself."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def keep_alive(self, head: Callable[[], Headers]) -> None:
        """From now on a comment goes out after 15 s of silence, behind ``head`` if need be: load
        balancers cut connections that say nothing."""
        self._head = head
        self._last_s = time.monotonic()
        self._timer = asyncio.get_running_loop().call_later(SILENCE_S, self._silent)

    def _silent(self) -> None:
        cycle = self._cycle
        if cycle.gone or cycle.answered:
            return
        now_s = time.monotonic()
        if now_s - self._last_s >= SILENCE_S and not cycle.write_paused:
            if not cycle.started and self._head is not None:
                cycle.start(200, self._head())
            cycle.write(COMMENT)
            self._last_s = now_s
        self._timer = asyncio.get_running_loop().call_at(self._last_s + SILENCE_S, self._silent)
