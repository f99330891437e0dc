"""How late the event loop runs its timers: the sign of something that blocks it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from itertools import islice

INTERVAL_S = 0.1
WINDOW_S = 60.0


class LagProbe:
    """A timer on ``loop`` every 0.1 s that notes by how much it came too late.

    Runs from ``start`` to ``stop``, both called in the loop's thread; ``max_60s`` may be called
    in any, and sees a stall while it lasts. Seconds throughout; costs ≈ 20 µs a second.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._heard: Callable[[float], None] | None = None
        self._samples: deque[tuple[float, float]] = deque(maxlen=int(WINDOW_S / INTERVAL_S))
        self._due_s = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def start(self, heard: Callable[[float], None] | None = None) -> None:
        """``heard`` is told ``sustained`` after every sample."""
        self._heard = heard
        if self._timer is None:
            self._arm()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def max_60s(self) -> float:
        """The largest lag of the last 60 s; 0 before the first sample."""
        return max(self._lags(), default=0.0)

    def sustained(self) -> float:
        """The median of the last five samples: high under load, not after one stall. For the loop's
        own thread."""
        lags = sorted(lag for _, lag in islice(reversed(self._samples), 5))
        return lags[2] if len(lags) == 5 else 0.0

    def _lags(self) -> list[float]:
        now_s = self._loop.time()
        lags = [lag for seen_s, lag in tuple(self._samples) if now_s - seen_s <= WINDOW_S]
        if self._timer is not None and now_s > self._due_s:
            lags.append(now_s - self._due_s)
        return lags

    def _arm(self) -> None:
        self._due_s = self._loop.time() + INTERVAL_S
        self._timer = self._loop.call_at(self._due_s, self._sample)

    def _sample(self) -> None:
        now_s = self._loop.time()
        self._samples.append((now_s, max(now_s - self._due_s, 0.0)))
        self._arm()
        if self._heard is not None:
            self._heard(self.sustained())
