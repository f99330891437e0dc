"""How many exchanges run at a time: as many as the event loop carries without falling behind.

The limit grows while timers are on time and shrinks when they are late (additive increase,
multiplicative decrease). What does not fit waits in a short queue, newest first: under overload the
oldest have most likely been given up by their clients.
"""

from __future__ import annotations

import asyncio

from gateway.errors import Unavailable

LEAST = 20
START = 500
MOST = 10_000
QUEUE = 100
WAIT_S = 1.0
LATE_S = 0.05
"""Timers this late: too much is running."""
ON_TIME_S = 0.02
SHRINK = 0.9
RESERVE = 0.1


class Permit:
    """One exchange's; made before it is asked for, so that it can be given back whatever happens."""

    __slots__ = ("held", "waiter")

    def __init__(self) -> None:
        self.held = False
        self.waiter: asyncio.Future[None] | None = None


class Concurrency:
    """``running`` of at most ``limit``. ``observe`` is told the loop's lag ten times a second."""

    __slots__ = ("_lag_s", "_queue", "limit", "running")

    def __init__(self, start: int = START) -> None:
        self.limit = start
        self.running = 0
        self._lag_s = 0.0
        self._queue: list[Permit] = []

    def observe(self, lag_s: float) -> None:
        """``lag_s``: how late timers have been for a while."""
        self._lag_s = lag_s
        if lag_s > LATE_S:
            self.limit = max(LEAST, min(self.limit, int(self.running * SHRINK)))
        elif lag_s < ON_TIME_S and self._queue:
            self._grow(len(self._queue))
            self._grant()

    def share(self) -> int:
        """How many places those who wait for one provider may have, where there are others.

        Half of what there can be. Under load that is the limit, of which the last tenth is kept from
        whoever has half of it already: the rest is of use to nobody while it is free.
        """
        if self._lag_s < ON_TIME_S:
            return MOST // 2
        scarce = self.running >= self.limit * (1.0 - RESERVE)
        return max(1, self.limit // 2) if scarce else self.limit

    async def take(self, permit: Permit) -> None:
        """Raises ``Unavailable`` when there is no room, at once or after a second in the queue."""
        if self.running >= self.limit and self._lag_s < ON_TIME_S:
            self._grow(1)
        if self.running < self.limit:
            self._hold(permit)
            return
        if len(self._queue) >= QUEUE:
            raise _overloaded()
        permit.waiter = asyncio.get_running_loop().create_future()
        self._queue.append(permit)
        try:
            async with asyncio.timeout(WAIT_S):
                await permit.waiter
        except TimeoutError:
            raise _overloaded() from None

    def give(self, permit: Permit) -> None:
        """Whether it was granted, still waits, or was never asked for."""
        if permit.held:
            permit.held = False
            self.running -= 1
            self._grant()
        elif permit.waiter is not None and permit in self._queue:
            self._queue.remove(permit)

    def _grow(self, by: int) -> None:
        self.limit = min(MOST, self.limit + by)

    def _grant(self) -> None:
        while self._queue and self.running < self.limit:
            permit = self._queue.pop()
            if permit.waiter is not None and not permit.waiter.done():
                self._hold(permit)
                permit.waiter.set_result(None)

    def _hold(self, permit: Permit) -> None:
        permit.held = True
        self.running += 1


def _overloaded() -> Unavailable:
    return Unavailable("Too much is running at the moment.", retry_after_s=1)
