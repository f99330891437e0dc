"""When to call once more: how long to wait, when to stop, and how much of the traffic may be retries."""

from __future__ import annotations

from dataclasses import dataclass

import tenacity

from gateway.routing.window import Window

LONGEST_HINT_S = 60.0
"""A provider that asks for more is not waited for."""
BUDGET_WINDOW_S = 10.0
HEDGE_WINDOW_S = 600.0
BUDGET_FLOOR = 3
"""Retries within the window that are always allowed, for where traffic is thin."""


@dataclass(slots=True, frozen=True)
class RetryPolicy:
    """``attempts``: upstream calls for one request. Waits grow from ``backoff_s`` to ``backoff_max_s``
    with full jitter. ``budget``: share of a group's requests that may be retried."""

    attempts: int = 3
    backoff_s: float = 0.5
    backoff_max_s: float = 8.0
    budget: float = 0.1


class Backoff:
    """The waits of one request, by tenacity's strategies."""

    __slots__ = ("_state", "_stop", "_wait")

    def __init__(self, policy: RetryPolicy) -> None:
        self._wait = tenacity.wait_random_exponential(multiplier=policy.backoff_s, max=policy.backoff_max_s)
        self._stop = tenacity.stop_after_attempt(policy.attempts)
        self._state = tenacity.RetryCallState(_RETRYING, None, (), {})

    def wait_s(self, calls: int, hint_s: float | None, left_s: float) -> float | None:
        """Seconds until the same deployment may be called again, after ``calls`` calls of this request.

        ``hint_s``: what the provider asked for. ``left_s``: until the deadline. None: do not.
        """
        self._state.attempt_number = calls
        if self._stop(self._state):
            return None
        wait_s = self._wait(self._state) if hint_s is None else hint_s
        if wait_s > LONGEST_HINT_S or wait_s >= left_s:
            return None
        return wait_s


_RETRYING = tenacity.Retrying()


class RetryBudget:
    """Of one model group: so that retries cannot multiply the load on a provider that is down.

    ``share`` of the requests within ``window_s``, but at least ``floor``.
    """

    __slots__ = ("_floor", "_share", "_window")

    def __init__(
        self, share: float, *, window_s: float = BUDGET_WINDOW_S, floor: int = BUDGET_FLOOR
    ) -> None:
        self._share = share
        self._floor = floor
        self._window = Window(window_s)

    def request(self, now_s: float) -> None:
        self._window.add(now_s, first=1)

    def take(self, now_s: float) -> bool:
        """Whether one more retry is within the budget; counts it."""
        requests, retries = self._window.totals(now_s)
        if retries >= max(self._floor, self._share * requests):
            return False
        self._window.add(now_s, second=1)
        return True
