"""Work of this process that would hold the loop: in threads, of which one at a time has its turn."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from gateway.privacy.interface import DetectorFailed

T = TypeVar("T")

MOST_THREADS = 32
TURN_S = 0.02
"""How long one works while others wait."""


class Effort:
    """How long one thing is worked at, without the time in which others had their turn. Called now and then
    by what works; raises ``DetectorFailed`` when that took more than ``budget_s``, or nobody waits for it
    any more."""

    def __init__(self, budget_s: float) -> None:
        self._budget_s = budget_s
        self._turns: Turns | None = None
        self._stopped = False
        self._before_s, self._began_s = 0.0, time.monotonic()

    def begin(self) -> None:
        """With the next thing."""
        self._before_s, self._began_s = 0.0, time.monotonic()

    def stop(self) -> None:
        self._stopped = True

    def __call__(self) -> None:
        now_s = time.monotonic()
        if self._stopped:
            raise DetectorFailed("nobody waits for what is looked for")
        if self._before_s + now_s - self._began_s > self._budget_s:
            raise DetectorFailed(f"looking for personal data took more than {self._budget_s:g} s")
        if self._turns is not None and now_s - self._began_s > TURN_S:
            self._before_s += now_s - self._began_s
            self._turns.give()
            self._turns.take()
            self._began_s = time.monotonic()

    def work(self, turns: Turns, work: Callable[[], T]) -> T:
        """In a thread, in turn with others."""
        turns.take()
        self._turns, self._began_s = turns, time.monotonic()
        try:
            return work()
        finally:
            self._turns = None
            turns.give()


class Turns:
    """A lock that goes to who has waited longest."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[threading.Lock] = deque()
        self._taken = False

    def take(self) -> None:
        with self._lock:
            if not self._taken:
                self._taken = True
                return
            mine = threading.Lock()
            mine.acquire()
            self._waiting.append(mine)
        mine.acquire()  # released by who gives its turn

    def give(self) -> None:
        with self._lock:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._taken = False


class Threads:
    """Where ``Effort`` works. ``close`` waits for nothing: what is worked at ends within its budget."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(MOST_THREADS, "search")
        self._turns = Turns()
        self._closed = False

    async def run(self, work: Callable[[], T], effort: Effort) -> T:
        """``work``, which calls ``effort`` now and then. Who gives up waits until it has ended. Raises
        ``DetectorFailed`` after ``close``."""
        if self._closed:
            raise DetectorFailed("the search for personal data was ended")
        future = asyncio.wrap_future(self._pool.submit(partial(effort.work, self._turns, work)))
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError:
            effort.stop()
            await asyncio.wait([future])
            if not future.cancelled():
                future.exception()  # has been looked at: asyncio need not say that it was not
            raise
        return future.result()

    def close(self) -> None:
        self._closed = True
        self._pool.shutdown(wait=False)
