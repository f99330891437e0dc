"""The periods of budgets, in UTC."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Literal

Period = Literal["hour", "day", "week", "month", "total"]

_HOUR_S, _DAY_S = 3600, 86400
_MONDAY_S = 4 * _DAY_S  # the epoch was a Thursday: the first Monday came four days later


def bounds(period: Period, now_s: int) -> tuple[int, int]:
    """Start and end of the period that holds ``now_s`` (epoch seconds); (0, 0) for ``total``.

    Weeks begin on Monday (ISO 8601).
    """
    if period == "total":
        return 0, 0
    if period == "month":
        return _month(now_s)
    length_s, offset_s = {
        "hour": (_HOUR_S, 0),
        "day": (_DAY_S, 0),
        "week": (7 * _DAY_S, _MONDAY_S),
    }[period]
    start_s = now_s - (now_s - offset_s) % length_s
    return start_s, start_s + length_s


def _month(now_s: int) -> tuple[int, int]:
    moment = datetime.fromtimestamp(now_s, timezone.utc)
    start = moment.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    end = (start + timedelta(days=32)).replace(day=1)
    return int(start.timestamp()), int(end.timestamp())
