"""Deployments and model groups: what the configuration says can answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gateway.accounting.pricing import Price
from gateway.providers.provider import Provider
from gateway.routing.health import Health
from gateway.routing.quota import Quota
from gateway.routing.retry import RetryBudget, RetryPolicy

if TYPE_CHECKING:
    from gateway.exchange import ModelRequest


@dataclass(slots=True, frozen=True)
class Timeouts:
    """Seconds. ``first_event_s`` None: a buffered answer's head may take until ``total_s``."""

    connect_s: float = 5.0
    first_event_s: float | None = None
    idle_s: float = 60.0
    total_s: float = 600.0


DEFAULT_FIRST_EVENT_S = 30.0


@dataclass(slots=True, frozen=True, eq=False)
class Deployment:
    """One model at one provider. ``price`` None: unknown. ``quota`` None: the provider's is not known."""

    id: str
    provider: Provider
    model: str
    price: Price | None
    health: Health
    weight: int = 1
    quota: Quota | None = None

    def free_at_s(self, now_s: float, *, alone: bool = False) -> float:
        """When a call may begin: ``now_s``, or later. ``alone``: its group has nobody else."""
        free_s = self.health.free_at_s(now_s, alone=alone)
        return free_s if self.quota is None else max(free_s, self.quota.free_at_s(now_s))


Random = Callable[[], float]
"""A number from 0 (inclusive) to 1 (exclusive)."""

Strategy = Callable[[Sequence[Deployment], "ModelRequest", float, Random], list[Deployment]]
"""Deployments in the order in which to try them; the time is of the monotonic clock."""


@dataclass(slots=True, frozen=True, eq=False)
class Group:
    """What apps call a model: deployments that may answer for each other, and who answers instead.

    ``fallbacks`` are filled in when all groups exist, since they may name each other.
    ``context_window``: input tokens of its smallest deployment, None if that is not known.
    ``message``: what to answer when nobody does, None for an error. ``hedges``: how many requests may
    be sent to a second deployment when the first is late, None for none. ``continues``: a stream that
    was cut is gone on with by another deployment, where its provider can.
    """

    name: str
    deployments: tuple[Deployment, ...]
    strategy: Strategy
    timeouts: Timeouts
    retry: RetryPolicy
    budget: RetryBudget
    fallback_on: frozenset[str]
    max_output_tokens: int
    response_cap_bytes: int
    event_cap_bytes: int
    context_window: int | None = None
    message: str | None = None
    hedges: RetryBudget | None = None
    continues: bool = False
    fallbacks: list[Group] = field(default_factory=list)

    def quotas(self) -> list[Quota]:
        """Of its own deployments, then of its fallbacks'."""
        groups = (self, *self.fallbacks) if self.fallbacks else (self,)
        return [one.quota for group in groups for one in group.deployments if one.quota is not None]

    def may_leave(self, deployment: Deployment, now_s: float) -> bool:
        """Whether somebody else is left when this deployment is not called for a while."""
        if self.fallbacks:
            return True
        others = (one.health for one in self.deployments if one is not deployment)
        others = (one for one in others if one.stopped is None)
        return any(one.breaker.state() != "open" and not one.cooling_s(now_s) for one in others)
