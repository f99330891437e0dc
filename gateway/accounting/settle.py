"""Settlements: handed over synchronously, written in batches by the loop, and waited for at shutdown."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from gateway.errors import Unavailable

Settlement = Callable[[], None]
"""Writes one exchange's row, then counts; must not block. Raises ``Unavailable`` to be called again."""

RETRY_S = 0.05


class Settler:
    """``settle`` never fails and never waits; ``admit`` refuses new work while the queue is too long.

    The loop drains the queue right after the callbacks that are due: what ends in one turn is written
    in the next. Nothing can cancel that, since no task does it.
    """

    def __init__(self, failed: Callable[[str, BaseException, str], None], most: int = 50_000) -> None:
        self._loop = asyncio.get_running_loop()
        self._queue: deque[Settlement] = deque()
        self._failed = failed
        self._most = most
        self._due = False
        self._emptied = asyncio.Event()
        self._emptied.set()

    def admit(self) -> None:
        """Raises ``Unavailable`` when settlements cannot keep up."""
        if len(self._queue) > self._most:
            raise Unavailable(
                "The ledger cannot keep up; nothing is admitted until it has.",
                code="storage_unavailable",
                retry_after_s=1,
            )

    def settle(self, settlement: Settlement) -> None:
        self._queue.append(settlement)
        if not self._due:
            self._due = True
            self._emptied.clear()
            self._loop.call_soon(self._drain)

    async def close(self) -> None:
        """Returns when everything handed over has been written."""
        await self._emptied.wait()

    def _drain(self) -> None:
        """What could not be written stays at the head of the queue."""
        while self._queue:
            try:
                self._queue[0]()
            except Unavailable:
                self._loop.call_later(RETRY_S, self._drain)
                return
            except Exception as error:  # one bad row must not stop the others
                self._failed("settlement_failed", error, "")
            self._queue.popleft()
        self._due = False
        self._emptied.set()
