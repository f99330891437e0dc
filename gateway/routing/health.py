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
LONGEST_ALONE_S = 60.0
"""The longest for which the last deployment of a group is left alone, if its provider asked for that."""
UNBOUNDED = 1 << 30
FAILURE_COSTS_S = 30.0
"""What a failure counts for where the fastest is wanted: failing fast must not attract traffic."""


class Cooldown:
    """The time until which a provider is left alone: for one model, or for all that a credential opens.
    ``alone_until_s``: the same for whoever has nobody else."""

    __slots__ = ("alone_until_s", "until_s")

    def __init__(self) -> None:
        self.until_s = self.alone_until_s = 0.0

    def extend(self, now_s: float, seconds: float, asked_s: float = 0.0) -> None:
        """Never shortened. ``asked_s``: what of it the provider has asked for, 0 for nothing."""
        self.until_s = max(self.until_s, now_s + min(seconds, LONGEST_COOLDOWN_S))
        if asked_s > 0:
            self.alone_until_s = max(self.alone_until_s, now_s + min(asked_s, LONGEST_ALONE_S))

    def left_s(self, now_s: float) -> float:
        return max(self.until_s - now_s, 0.0)


class Account:
    """One credential at one provider. ``refused``: until when it is not worth trying; ``in_flight``: calls
    with it that have begun and not ended, of ``most()`` that there may be."""

    __slots__ = ("_most", "in_flight", "refused")

    def __init__(self, most: Callable[[], int]) -> None:
        self._most = most
        self.refused = Cooldown()
        self.in_flight = 0

    @property
    def full(self) -> bool:
        return self.in_flight >= self._most()


class Health:
    """One deployment's. ``in_flight``: calls of this process that have begun and not ended. ``stopped``: by
    which kill switch it is, None if it is not."""

    __slots__ = ("account", "breaker", "cooldown", "in_flight", "latency", "policy", "stopped")

    def __init__(
        self, policy: BreakerPolicy, cooldown: Cooldown, account: Account, changed: Callable[[State], None]
    ) -> None:
        self.policy = policy
        self.breaker = Breaker(policy, random, changed)
        self.cooldown = cooldown
        self.account = account
        self.latency = Latency()
        self.in_flight = 0
        self.stopped: str | None = None

    def cooldown_left_s(self) -> float:
        """Seconds from now, of ``time.monotonic()``, for groups that have others."""
        return self.cooling_s(time.monotonic())

    def cooling_s(self, now_s: float) -> float:
        return max(self.cooldown.left_s(now_s), self.account.refused.left_s(now_s))

    def free_at_s(self, now_s: float, *, alone: bool = False) -> float:
        """When a call may begin: ``now_s``, or later. ``alone``: its group has nobody else, so that only
        what the provider asked for keeps it."""
        free_s = max(self.breaker.free_at_s(now_s), now_s)
        if alone:
            return max(free_s, self.cooldown.alone_until_s)
        return max(free_s, self.cooldown.until_s, self.account.refused.until_s)

    def began(self) -> None:
        self.in_flight += 1
        self.account.in_flight += 1

    def ended(self) -> None:
        self.in_flight -= 1
        self.account.in_flight -= 1

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
    breakers by deployment id; ``share`` says how many calls one account may have where there are others."""

    def __init__(self, changed: Changed, share: Callable[[], int] = lambda: UNBOUNDED) -> None:
        self._changed = changed
        self._share = share
        self._healths: dict[tuple[str, str, str], Health] = {}
        self._cooldowns: dict[tuple[str, str], Cooldown] = {}
        self._accounts: dict[str, Account] = {}
        self._budgets: dict[tuple[str, float], RetryBudget] = {}
        self._hedges: dict[tuple[str, float], RetryBudget] = {}

    def health(self, deployment: str, account: str, model: str, policy: BreakerPolicy) -> Health:
        """What is known so far; a changed policy begins anew. ``account`` names a provider and its
        credential: a cooldown is for these and the model, whatever deployment meets it."""
        identity = (deployment, account, model)
        known = self._healths.get(identity)
        if known is None or known.policy != policy:
            cooldown = self._cooldowns.setdefault((account, model), Cooldown())
            owner = self._accounts.setdefault(account, Account(self._most))
            known = Health(policy, cooldown, owner, lambda state: self._changed(deployment, state))
            self._healths[identity] = known
        return known

    def _most(self) -> int:
        return self._share() if len(self._accounts) > 1 else UNBOUNDED

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
        owners = {one.account for one in used}
        self._accounts = {key: one for key, one in self._accounts.items() if one in owners}
        self._budgets = {key: one for key, one in self._budgets.items() if key[0] in groups}
        self._hedges = {key: one for key, one in self._hedges.items() if key[0] in groups}
