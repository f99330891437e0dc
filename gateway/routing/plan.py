"""Whom to call for one request, and whom next when that fails: the policy, without any I/O.

Untried deployments of the group come first, then its fallback groups in their order, then a deployment
that was tried already, after a wait. All of them together make at most ``attempts`` calls.
"""

from __future__ import annotations

import random as _random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from gateway.errors import Forbidden, GatewayError, Sent, Unavailable, UpstreamError, UpstreamTimeout
from gateway.exchange import ModelRequest
from gateway.routing.demand import demand_of
from gateway.routing.deployment import Deployment, Group, Random
from gateway.routing.retry import Backoff

Reason = Literal["error", "rate_limit", "timeout", "context_length", "content_filter"]

ELSEWHERE: frozenset[Reason] = frozenset({"error", "rate_limit", "timeout"})
"""Reasons for which another deployment of the same group may do better."""
HEDGE_QUANTILE = 0.95
_BY_CODE: dict[str, Reason] = {
    "context_length_exceeded": "context_length",
    "content_filter": "content_filter",
    "upstream_rate_limited": "rate_limit",
}


def reason_of(error: UpstreamError) -> Reason | None:
    """What a fallback can be made for; None where the request itself is at fault."""
    named = _BY_CODE.get(error.code)
    if named is not None:
        return named
    if isinstance(error, UpstreamTimeout):
        return "timeout"
    return None if error.status in (400, 413) else "error"


@dataclass(slots=True)
class Step:
    """Call ``deployment`` after ``wait_s``. ``tokens``: counted against its quota."""

    group: Group
    deployment: Deployment
    wait_s: float = 0.0
    tokens: int = 0


class Plan:
    """One request's. ``deadline_s`` and ``now_s`` are of the monotonic clock. ``any_price``: deployments
    of unknown price may be called, too."""

    __slots__ = (
        "_any_price",
        "_began_s",
        "_deadline_s",
        "_going_on",
        "_group",
        "_random",
        "_refused",
        "_request",
        "_sent",
        "_steps",
        "_tokens",
        "_tried",
    )

    def __init__(
        self,
        group: Group,
        request: ModelRequest,
        deadline_s: float,
        *,
        any_price: bool = False,
        random: Random = _random.random,
    ) -> None:
        self._group = group
        self._request = request
        self._deadline_s = deadline_s
        self._any_price = any_price
        self._random = random
        self._going_on = False
        self._sent: Sent | None = None
        self._began_s = 0.0
        self._steps: list[Step] = []
        self._tokens: int | None = None
        self._tried: set[str] = set()
        self._refused: set[str] = set()

    @property
    def tokens(self) -> int:
        """What the request is foreseen to use, 0 where no quota is of tokens."""
        if self._tokens is None:
            measured = any(quota.policy.tpm is not None for quota in self._group.quotas())
            self._tokens = demand_of(self._request, self._group).tokens if measured else 0
        return self._tokens

    def first(self, now_s: float) -> Step:
        """Raises ``Unavailable`` when nobody may be called, with the time at which somebody may, and
        ``Forbidden`` when that is because of kill switches alone."""
        self._group.budget.request(now_s)
        if self._group.hedges is not None:
            self._group.hedges.request(now_s)
        step = self._untried(self._group, now_s) or self._fallback(now_s, None)
        step = step or self._last(now_s)
        if step is None:
            raise self._nobody(now_s)
        return self._taken(step, now_s)

    def after(self, error: UpstreamError, now_s: float) -> Step | None:
        """The next step after the last one failed with ``error``; None: that was it."""
        reason = reason_of(error)
        if self._going_on and reason not in ELSEWHERE:
            reason = "error"  # the request was fine before: going on is what this one cannot do
        return self._next(error, reason, now_s)

    def after_cut(self, error: UpstreamError, now_s: float) -> Step | None:
        """Who goes on with an answer that ``error`` cut after its first content; None: nobody. From here
        on only providers that can are asked."""
        self._going_on = True
        self._began_s = now_s  # it did answer: how long it took says nothing
        return self._next(error, reason_of(error), now_s)

    def _next(self, error: UpstreamError, reason: Reason | None, now_s: float) -> Step | None:
        if len(self._steps) >= self._group.retry.attempts:
            return None
        if reason is None or now_s >= self._deadline_s:
            return None
        self._sent = error.sent
        last = self._steps[-1]
        if error.refuses_credential:
            self._refused.add(last.deployment.provider.name)
        step = self._untried(last.group, now_s) if reason in ELSEWHERE else None
        if step is None:
            step = self._fallback(now_s, reason)
        if step is None and reason in ELSEWHERE:
            step = self._last(now_s) or self._again(error, now_s)
        return None if step is None else self._taken(step, now_s)

    def hedge_after_s(self, deployment: Deployment) -> float | None:
        """Seconds after which a second deployment is asked beside this one; None: never.

        That is when nineteen of twenty answers would have begun, by what is known of the deployment.
        """
        if self._group.hedges is None or len(self._group.deployments) < 2:
            return None
        return deployment.health.latency.quantile_s(HEDGE_QUANTILE)

    def hedge(self, now_s: float) -> Step | None:
        """Whom to ask beside the last one, if there is anybody and the share of hedges allows it."""
        hedges = self._group.hedges
        if hedges is None or len(self._steps) >= self._group.retry.attempts:
            return None
        step = self._untried(self._steps[-1].group, now_s)
        if step is None:
            return None
        if not hedges.take(now_s):
            step.deployment.health.breaker.gave_up()  # it may have been let in as a probe
            if step.deployment.quota is not None:
                step.deployment.quota.give_back(self.tokens)
            return None
        return self._taken(step, now_s)

    def _taken(self, step: Step, now_s: float) -> Step:
        self._steps.append(step)
        step.tokens = self.tokens if step.deployment.quota is not None else 0
        self._began_s = now_s + step.wait_s
        self._tried.add(step.deployment.id)
        return step

    def _untried(self, group: Group, now_s: float, *, alone: bool = False) -> Step | None:
        """``alone``: nobody else could be called, so who is the group's last is, whatever its record."""
        deployments = group.deployments
        if len(deployments) > 1:
            ranked: Iterable[Deployment] = group.strategy(deployments, self._request, now_s, self._random)
        else:
            ranked = deployments
        for deployment in ranked:
            if deployment.id in self._tried or deployment.provider.name in self._refused:
                continue
            if not self._suits(deployment):
                continue
            if alone and group.may_leave(deployment, now_s):
                continue
            if self._may_call(deployment, now_s, alone):
                return Step(group, deployment)
        return None

    def _last(self, now_s: float) -> Step | None:
        """Who was not tried for its record alone, where there is nobody else."""
        return None if self._group.fallbacks else self._untried(self._group, now_s, alone=True)

    def _fallback(self, now_s: float, reason: Reason | None) -> Step | None:
        """``reason`` None: nobody in the group could be called at all."""
        if reason is not None and reason not in self._group.fallback_on:
            return None
        for group in self._group.fallbacks:
            if reason == "context_length" and not _larger(group, self._group):
                continue
            step = self._untried(group, now_s)
            if step is not None:
                return step
        return None

    def _again(self, error: UpstreamError, now_s: float) -> Step | None:
        if error.sent is Sent.HARD or not error.retryable:
            return None
        if error.sent is Sent.NEVER and not error.blames_deployment:
            return None  # all our places there were taken for a second: no longer in line for one
        last = next((step for step in reversed(self._steps) if self._suits(step.deployment)), None)
        if last is None:
            return None
        wait_s = Backoff(self._group.retry).wait_s(len(self._steps), error.hint_s, self._deadline_s - now_s)
        if wait_s is None:
            return None
        # what gave no answer in this time may need as long again
        least_s = now_s - self._began_s if error.sent is Sent.AMBIGUOUS else 0.0
        if not self._can_finish(last.deployment, now_s + wait_s, least_s):
            return None
        if not self._within_budget(last.deployment, now_s) or not self._within_quota(
            last.deployment, now_s
        ):
            return None
        return Step(last.group, last.deployment, wait_s)

    def _suits(self, deployment: Deployment) -> bool:
        """Whether it may be asked at all, whatever its health."""
        if self._going_on and deployment.provider.prefill == "none":
            return False
        if deployment.health.stopped is not None:
            return False
        return deployment.price is not None or self._any_price

    def _within_budget(self, deployment: Deployment, now_s: float) -> bool:
        """What never left, and what goes to another provider, multiplies no provider's load."""
        called = {before.deployment.provider.name for before in self._steps}
        if self._sent in (None, Sent.NEVER) or deployment.provider.name not in called:
            return True
        return self._group.budget.take(now_s)

    def _within_quota(self, deployment: Deployment, now_s: float) -> bool:
        quota = deployment.quota
        return quota is None or quota.take(self.tokens, now_s)

    def _may_call(self, deployment: Deployment, now_s: float, alone: bool) -> bool:
        """Admission comes last: a probe that is admitted must be made."""
        health = deployment.health
        if health.free_at_s(now_s, alone=alone) > now_s or health.account.full:
            return False
        if not self._can_finish(deployment, now_s):
            return False
        if not self._within_budget(deployment, now_s) or not self._within_quota(deployment, now_s):
            return False
        return health.breaker.admit(now_s)

    def _can_finish(self, deployment: Deployment, start_s: float, least_s: float = 0.0) -> bool:
        """Whether an answer can begin before the deadline, by what is known of the deployment; in less
        than ``least_s`` it cannot."""
        if not self._steps:
            return True
        usual_s = deployment.health.latency.quantile_s(0.5) or 0.0
        return start_s + max(usual_s, least_s) < self._deadline_s

    def _nobody(self, now_s: float) -> GatewayError:
        groups = (self._group, *self._group.fallbacks)
        healths = [one.health for group in groups for one in group.deployments]
        stopped = [one.stopped for one in healths if one.stopped is not None]
        if len(stopped) == len(healths):
            return Forbidden(stopped[0], code="kill_switch")
        if any(one.account.full for one in healths if one.stopped is None):
            return Unavailable("Too many requests wait for this model's provider.", retry_after_s=1)
        free_s = min(
            one.free_at_s(now_s, alone=not self._group.may_leave(one, now_s))
            for group in groups
            for one in group.deployments
            if not one.health.stopped
        )
        return Unavailable(
            "No deployment of this model can be called at the moment.",
            code="no_deployment_available",
            retry_after_s=max(1, int(free_s - now_s + 0.999)),
        )


def _larger(group: Group, than: Group) -> bool:
    """Whether a longer context may fit; where a window is unknown, it may."""
    if group.context_window is None or than.context_window is None:
        return True
    return group.context_window > than.context_window
