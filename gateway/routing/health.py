"""What has been learned about deployments: it outlives every reload."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from random import random
from typing import TYPE_CHECKING

from gateway.routing.breaker import Breaker, BreakerPolicy, State
from gateway.routing.latency import Latency
from gateway.routing.retry import HEDGE_WINDOW_S, RetryBudget, RetryPolicy

if TYPE_CHECKING:
    from gateway.routing.deployment import Group

LONGEST_COOLDOWN_S = 300.0
FAILURE_COSTS_S = 30.0
"""What a failure counts for where the fastest is wanted: failing fast must not attract traffic."""


class Cooldown:
    """Of one credential and model: the time until which the provider asked to be left alone."""

    __slots__ = ("until_s",)

    def __init__(self) -> None:
        self.until_s = 0.0

    def extend(self, now_s: float, seconds: float) -> None:
        """Never shortened."""
        self.until_s = max(self.until_s, now_s + min(seconds, LONGEST_COOLDOWN_S))

    def left_s(self, now_s: float) -> float:
        return max(self.until_s - now_s, 0.0)


class Health:
    """One deployment's. ``in_flight``: calls of this process that have begun and not ended."""

    __slots__ = ("breaker", "cooldown", "in_flight", "latency", "policy")

    def __init__(self, policy: BreakerPolicy, cooldown: Cooldown, changed: Callable[[State], None]) -> None:
        self.policy = policy
        self.breaker = Breaker(policy, random, changed)
        self.cooldown = cooldown
        self.latency = Latency()
        self.in_flight = 0

    def cooldown_left_s(self) -> float:
        """Seconds from now, of ``time.monotonic()``."""
        return self.cooldown.left_s(time.monotonic())

    def free_at_s(self, now_s: float) -> float:
        """When a call may begin: ``now_s``, or later."""
        return max(self.breaker.free_at_s(now_s), self.cooldown.until_s, now_s)

    def answered(self, now_s: float, seconds: float) -> None:
        """The first content came after ``seconds``; whether the answer is good shows at its end."""
        self.latency.observe(now_s, seconds)

    def failed(self, now_s: float, era: int | None = None, *, may_open: bool) -> None:
        """Evidence against it. ``era``: of the breaker when the call began. ``may_open``: others of its
        group remain."""
        self.latency.penalise(now_s, FAILURE_COSTS_S)
        self.breaker.failed(now_s, era, may_open=may_open)


Changed = Callable[[str, State], None]


class Learned:
    """The health of all deployments and the retry budgets of all groups, by name. ``changed`` hears of
    breakers by deployment id."""

    def __init__(self, changed: Changed) -> None:
        self._changed = changed
        self._healths: dict[tuple[str, str, str], Health] = {}
        self._cooldowns: dict[tuple[str, str], Cooldown] = {}
        self._budgets: dict[tuple[str, float], RetryBudget] = {}
        self._hedges: dict[tuple[str, float], RetryBudget] = {}

    def health(self, deployment: str, provider: str, model: str, policy: BreakerPolicy) -> Health:
        """What is known so far; a changed policy begins anew. A cooldown is for the provider's
        credential and model, whatever deployment meets it."""
        identity = (deployment, provider, model)
        known = self._healths.get(identity)
        if known is None or known.policy != policy:
            cooldown = self._cooldowns.setdefault((provider, model), Cooldown())
            known = Health(policy, cooldown, lambda state: self._changed(deployment, state))
            self._healths[identity] = known
        return known

    def budget(self, group: str, policy: RetryPolicy) -> RetryBudget:
        return self._budgets.setdefault((group, policy.budget), RetryBudget(policy.budget))

    def hedges(self, group: str, share: float) -> RetryBudget | None:
        if not share:
            return None
        made = RetryBudget(share, window_s=HEDGE_WINDOW_S, floor=1)
        return self._hedges.setdefault((group, share), made)

    def all(self) -> dict[str, Health]:
        """By deployment id."""
        return {identity[0]: health for identity, health in self._healths.items()}

    def retain(self, groups: Mapping[str, Group]) -> None:
        """Forgets what no group names any more."""
        used = {one.health for group in groups.values() for one in group.deployments}
        self._healths = {key: one for key, one in self._healths.items() if one in used}
        kept = {one.cooldown for one in used}
        self._cooldowns = {key: one for key, one in self._cooldowns.items() if one in kept}
        self._budgets = {key: one for key, one in self._budgets.items() if key[0] in groups}
        self._hedges = {key: one for key, one in self._hedges.items() if key[0] in groups}
