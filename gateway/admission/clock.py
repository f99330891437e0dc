"""The time by which limits and budgets are counted: the store's, as its answers tell it."""

from __future__ import annotations

import time


class StoreClock:
    """``offset_us``: by how much the store's clock is ahead of this machine's, as far as is known."""

    __slots__ = ("offset_us",)

    def __init__(self) -> None:
        self.offset_us = 0

    def now_s(self) -> int:
        """Seconds since the epoch."""
        return (time.time_ns() // 1000 + self.offset_us) // 1_000_000
