"""Times as text: RFC 3339 in UTC with milliseconds, as in the log and the ledger."""

from __future__ import annotations

import time


class Timestamp:
    """Formats a time; remembers the second, of which there are many times in a row."""

    __slots__ = ("_second", "_text")

    def __init__(self) -> None:
        self._second, self._text = -1, ""

    def __call__(self, now_s: float) -> str:
        """``now_s``: seconds since the epoch."""
        second = int(now_s)
        if second != self._second:
            self._second, self._text = second, time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(second))
        return f"{self._text}{int((now_s - second) * 1000):03d}Z"
