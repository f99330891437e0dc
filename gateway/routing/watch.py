"""One timer for a whole attempt, re-armed lazily."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


def _nothing() -> None:
    return None


class Watch:
    """Calls ``expire`` once when nobody has extended it in time.

    Extending is one assignment; the timer notices when it fires that the time has moved.
    """

    __slots__ = ("_expire", "_fires_s", "_loop", "_timer", "_until_s")

    def __init__(self, loop: asyncio.AbstractEventLoop, expire: Callable[[], None]) -> None:
        self._loop = loop
        self._expire = expire
        self._until_s = self._fires_s = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def extend(self, seconds: float) -> None:
        """From now on ``seconds`` are left."""
        self._until_s = self._loop.time() + seconds
        if self._timer is None or self._until_s < self._fires_s:
            self.stop()
            self._start()

    def close(self) -> None:
        """Never expires; whoever waited for it is let go."""
        self.stop()
        self._expire = _nothing

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check(self) -> None:
        self._timer = None
        if self._loop.time() >= self._until_s:
            self._expire()
        else:
            self._start()

    def _start(self) -> None:
        self._fires_s = self._until_s
        self._timer = self._loop.call_at(self._until_s, self._check)
