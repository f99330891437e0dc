"""GCRA, pure: a rate is one time, up to which it is in debt (``tat``, the theoretical arrival time).

Each unit costs ``60 s / limit``; a cost fits while the debt stays within a minute. So ``limit`` units can
be had at once, then they come back steadily. Times are microseconds since 2025 as floats, which leaves
them a hundredth of a microsecond. ``lua/admit.lua`` is the same arithmetic, step for step.
"""

from __future__ import annotations

from math import ceil, floor, inf

from gateway.storage.interface import RateState

MINUTE_US = 60_000_000.0
SLACK_US = 0.5
"""Less than this is no debt."""
FIT_US = 2.0
"""So much rounding may add to hundreds of costs at one instant, and fits all the same."""
ORIGIN_US = 1_735_689_600_000_000
"""2025-01-01, from where ``tat`` counts."""


def excess_us(debt_us: float, limit: int, cost: int) -> float:
    """How long a cost must wait: 0 when it fits now, infinity when it exceeds the limit."""
    if cost <= 0:
        return 0.0
    if cost > limit:
        return inf
    excess = debt_us + cost * (MINUTE_US / limit) - MINUTE_US
    return excess if excess > FIT_US else 0.0


def wait_us(excess_us: float) -> int:
    """Whole microseconds to wait; 0 for one that never fits."""
    return 0 if excess_us == inf else max(0, ceil(excess_us - FIT_US))


def moved(tat_us: float, now_us: int, limit: int, units: int) -> float:
    """``tat`` after ``units`` more (or fewer); what is not later than ``now_us`` is no debt."""
    start = tat_us if tat_us > now_us else float(now_us)
    return start + units * (MINUTE_US / limit) if limit > 0 else start


def state(debt_us: float, limit: int) -> RateState:
    if limit <= 0:
        return RateState(0, 0)
    if debt_us <= SLACK_US:
        return RateState(limit, 0)
    room = MINUTE_US + FIT_US - debt_us
    remaining = min(limit, floor(room / (MINUTE_US / limit))) if room > 0 else 0
    return RateState(remaining, ceil(debt_us - SLACK_US))
