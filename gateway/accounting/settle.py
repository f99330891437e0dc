"""Settlements: handed over synchronously, written by a task that shutdown waits for."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from gateway.errors import Unavailable

Settlement = Callable[[], None]
"""Writes one exchange's row, then counts; must not block. Raises ``Unavailable`` to be called again."""

RETRY_S = 0.05


class Settler:
    """``settle`` never fails and never waits; ``admit`` refuses new work while the queue is too long."""

    def __init__(self, failed: Callable[[str, BaseException, str], None], most: int = 50_000) -> None:
        self._queue: deque[Settlement] = deque()
        self._failed = failed
        self._most = most
        self._wake = asyncio.Event()
        self._closing = False
        self._task: asyncio.Task[None] | None = None

    def start(self, spawn: Callable[[Any], asyncio.Task[None]]) -> None:
        self._task = spawn(self._run())

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
        self._wake.set()

    async def close(self) -> None:
        """Returns when everything handed over has been written."""
        self._closing = True
        self._wake.set()
        if self._task is not None:
            await self._task

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while not self._drain():
                await asyncio.sleep(RETRY_S)
            if self._closing:
                return

    def _drain(self) -> bool:
        """Whether all could be written; what could not stays at the head of the queue."""
        while self._queue:
            try:
                self._queue[0]()
            except Unavailable:
                return False
            except Exception as error:  # one bad row must not stop the others
                self._failed("settlement_failed", error, "")
            self._queue.popleft()
        return True
