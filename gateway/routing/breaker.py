"""A circuit breaker for calls that are awaited: asked before a call, told after it.

pybreaker keeps the state machine (closed, open, half-open, consecutive failures, successes to close).
What it does not do stands here: a clock of our own, an error rate over a window, open times that grow
and are spread by jitter, one probe at a time, and nothing recorded for a call that was given up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import pybreaker

from gateway.routing.window import Window

State = Literal["closed", "half-open", "open"]

LONGEST_OPEN_S = 300.0
JITTER = 0.2
SUCCESSES = 3
"""Probes in a row that close it again."""


@dataclass(slots=True, frozen=True)
class BreakerPolicy:
    """Opens on ``failures`` in a row, or when ``error_rate`` of at least ``min_requests`` failed within
    ``window_s``; for ``open_s``, the second time twice as long, and so on."""

    failures: int = 5
    error_rate: float = 0.5
    min_requests: int = 20
    window_s: float = 10.0
    open_s: float = 30.0


class _Failure(Exception):
    """Tells pybreaker of a failure."""


def _fail() -> None:
    raise _Failure


def _succeed() -> None:
    return None


class _Listener(pybreaker.CircuitBreakerListener):
    def __init__(self, changed: Callable[[State], None]) -> None:
        self._changed = changed

    def state_change(self, cb: object, old_state: object, new_state: Any) -> None:
        self._changed(new_state.name)


class Breaker:
    """Of one deployment. ``jitter`` returns numbers from 0 to 1; ``changed`` hears of a new state.

    ``now_s`` is of one monotonic clock throughout.
    """

    __slots__ = (
        "_changed",
        "_era",
        "_failing",
        "_jitter",
        "_machine",
        "_openings",
        "_policy",
        "_probing",
        "_state",
        "_window",
        "open_until_s",
    )

    def __init__(
        self, policy: BreakerPolicy, jitter: Callable[[], float], changed: Callable[[State], None]
    ) -> None:
        self._policy = policy
        self._jitter = jitter
        self._window = Window(policy.window_s)
        self._openings = 0
        self._era = 0
        self._probing = False
        self._failing = False  # since the last success
        self.open_until_s = 0.0
        self._state: State = "closed"
        self._changed = changed
        self._machine = pybreaker.CircuitBreaker(
            fail_max=policy.failures,
            success_threshold=SUCCESSES,
            throw_new_error_on_trip=False,
            listeners=[_Listener(self._moved)],
        )

    @property
    def era(self) -> int:
        """Changes when it opens. Noted when a call begins and told at its end: a call from before it
        opened says nothing about now, and is no probe. None there: of now."""
        return self._era

    def state(self) -> State:
        return self._state

    def _moved(self, state: State) -> None:
        self._state = state
        self._changed(state)

    def free_at_s(self, now_s: float) -> float:
        """When a call may begin: ``now_s``, or later."""
        if self.state() == "open":
            return max(self.open_until_s, now_s)
        if self.state() == "half-open" and self._probing:
            return now_s + 1.0
        return now_s

    def admit(self, now_s: float) -> bool:
        """Whether a call may begin now; while it is not closed, one at a time as a probe."""
        if self.state() == "closed":
            return True
        if now_s < self.free_at_s(now_s):
            return False
        if self.state() == "open":
            self._machine.half_open()
        self._probing = True
        return True

    def succeeded(self, now_s: float, era: int | None = None) -> None:
        if era not in (None, self._era):
            return
        self._probing = False
        self._window.add(now_s, first=1)
        if self._state == "closed" and not self._failing:
            return  # nothing that the machine would note
        self._failing = False
        if self.state() != "open":  # a call from before it opened says nothing about now
            self._machine.call(_succeed)
            if self.state() == "closed":
                self._openings = 0

    def failed(self, now_s: float, era: int | None = None, *, may_open: bool = True) -> None:
        """``may_open``: False for the last deployment of a group, which is never left alone."""
        if era not in (None, self._era):
            return
        self._probing = False
        self._window.add(now_s, second=1)
        if self.state() == "open" or (self.state() == "closed" and not may_open):
            return
        self._failing = True
        try:
            self._machine.call(_fail)
        except _Failure:
            pass
        if self.state() == "open" or self._too_many(now_s):
            self._open(now_s)

    def gave_up(self, era: int | None = None) -> None:
        """The call ended for a reason of ours or the client's: no evidence either way."""
        if era in (None, self._era):
            self._probing = False

    def apply(self, state: State, open_until_s: float) -> None:
        """What a peer has found out."""
        if state == "open":
            self._era += 1
            self._probing = False
            self.open_until_s = max(self.open_until_s, open_until_s)
            if self.state() != "open":
                self._machine.open()
        elif state == "closed" and self.state() != "closed":
            self._close()

    def _too_many(self, now_s: float) -> bool:
        good, bad = self._window.totals(now_s)
        total = good + bad
        return total >= self._policy.min_requests and bad >= self._policy.error_rate * total

    def _open(self, now_s: float) -> None:
        self._openings += 1
        self._era += 1
        spread = 1.0 + JITTER * (2.0 * self._jitter() - 1.0)
        open_s = min(self._policy.open_s * self._openings, LONGEST_OPEN_S)
        self.open_until_s = now_s + open_s * spread
        self._window.clear()
        if self.state() != "open":
            self._machine.open()

    def _close(self) -> None:
        self._openings = 0
        self._window.clear()
        self._machine.close()
