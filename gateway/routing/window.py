"""Counting over the last seconds, in a fixed amount of memory."""

from __future__ import annotations

SLOTS = 10


class Window:
    """How many of two kinds happened in the last ``span_s`` seconds, to a tenth of that.

    Times are seconds of one monotonic clock.
    """

    __slots__ = ("_first", "_now", "_second", "_slot_s")

    def __init__(self, span_s: float) -> None:
        self._slot_s = span_s / SLOTS
        self._first = [0] * SLOTS
        self._second = [0] * SLOTS
        self._now = 0

    def add(self, now_s: float, first: int = 0, second: int = 0) -> None:
        slot = self._advance(now_s)
        self._first[slot] += first
        self._second[slot] += second

    def totals(self, now_s: float) -> tuple[int, int]:
        self._advance(now_s)
        return sum(self._first), sum(self._second)

    def clear(self) -> None:
        self._first = [0] * SLOTS
        self._second = [0] * SLOTS

    def _advance(self, now_s: float) -> int:
        """The slot of ``now_s``, with what has passed out of the window forgotten."""
        now = int(now_s / self._slot_s)
        if now == self._now:
            return now % SLOTS
        for passed in range(max(self._now, now - SLOTS) + 1, now + 1):
            self._first[passed % SLOTS] = self._second[passed % SLOTS] = 0
        self._now = max(self._now, now)
        return self._now % SLOTS
