"""What a tenant is allowed: limits and budgets by scope, and what holds for one request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from gateway.admission.period import Period, bounds
from gateway.storage.interface import Fund, RateClaim, SlotClaim

LimitsOnLoss = Literal["deny", "allow", "local_share"]
BudgetOnLoss = Literal["deny", "allow", "lease"]


@dataclass(slots=True, frozen=True)
class Limits:
    """``rpm`` and ``tpm``: requests and tokens a minute; ``concurrency``: at a time. None: no limit."""

    rpm: int | None = None
    tpm: int | None = None
    concurrency: int | None = None


@dataclass(slots=True, frozen=True)
class Budget:
    """``alert_at``: shares of it at which somebody is told, ascending."""

    limit_nanousd: int
    period: Period
    alert_at: tuple[float, ...] = ()

    def fund(self, scope: str, now_s: int) -> Fund:
        """Of the period that holds ``now_s``."""
        start_s, end_s = bounds(self.period, now_s)
        return Fund(f"{scope}.{self.period}", self.limit_nanousd, start_s, end_s)


NO_LIMITS = Limits()


@dataclass(slots=True, frozen=True)
class Allowance:
    """What one tenant, key, model, feature or user may use."""

    limits: Limits = NO_LIMITS
    budget: Budget | None = None


@dataclass(slots=True, frozen=True)
class Scope:
    """``name``: of its counters in the store; ``kind``: for metrics; ``shown``: for people."""

    name: str
    kind: Literal["tenant", "key", "model", "feature", "user"]
    shown: str
    allowance: Allowance


class Bound:
    """What holds for requests of one key, model, feature and user, ready to be asked of a store.

    ``rate_scopes``, ``slot_scopes`` and ``fund_scopes`` stand beside the claims in their order: first
    ``requests``, then ``tokens`` (counter and limit; the cost is the request's own).
    """

    __slots__ = ("_funds", "fund_scopes", "rate_scopes", "requests", "slot_scopes", "slots", "tokens")

    def __init__(self, scopes: tuple[Scope, ...]) -> None:
        by_rpm = [one for one in scopes if one.allowance.limits.rpm is not None]
        by_tpm = [one for one in scopes if one.allowance.limits.tpm is not None]
        self.slot_scopes = [one for one in scopes if one.allowance.limits.concurrency is not None]
        self.fund_scopes = [one for one in scopes if one.allowance.budget is not None]
        self.rate_scopes = [*by_rpm, *by_tpm]
        self.requests = [RateClaim(f"{one.name}.rpm", one.allowance.limits.rpm or 0, 1) for one in by_rpm]
        self.tokens = [(f"{one.name}.tpm", one.allowance.limits.tpm or 0) for one in by_tpm]
        self.slots = [
            SlotClaim(one.name, one.allowance.limits.concurrency or 0) for one in self.slot_scopes
        ]
        self._funds: list[Fund] = []

    @property
    def empty(self) -> bool:
        return not (self.rate_scopes or self.slots or self.fund_scopes)

    @property
    def measured(self) -> bool:
        """Whether it matters how much a request may use."""
        return bool(self.tokens or self.fund_scopes)

    def funds(self, now_s: int) -> list[Fund]:
        """Of the periods that hold ``now_s``, in the order of ``fund_scopes``."""
        held = self._funds
        if not held or any(not _holds(fund, now_s) for fund in held):
            held = self._funds = [
                one.allowance.budget.fund(one.name, now_s)
                for one in self.fund_scopes
                if one.allowance.budget is not None
            ]
        return held


def _holds(fund: Fund, now_s: int) -> bool:
    return not fund.end_s or fund.start_s <= now_s < fund.end_s


NOTHING = Allowance()
_MOST_BOUND = 4096


@dataclass(slots=True, eq=False)
class Terms:
    """A tenant's. ``models``: by group; ``keys`` and ``features``: by name; ``each_user``: of whoever the
    cost tag ``user`` names. ``drain``: an answer whose client has left is read to its end."""

    tenant: str
    own: Allowance = NOTHING
    keys: Mapping[str, Allowance] = field(default_factory=dict)
    models: Mapping[str, Allowance] = field(default_factory=dict)
    features: Mapping[str, Allowance] = field(default_factory=dict)
    each_user: Allowance | None = None
    limits_on_loss: LimitsOnLoss = "local_share"
    budget_on_loss: BudgetOnLoss = "lease"
    drain: bool = False
    _bound: dict[tuple[str, str, str, str], Bound] = field(default_factory=dict)

    def bound(self, key: str, model: str, feature: str, user: str) -> Bound:
        """What holds for such requests."""
        if feature not in self.features:
            feature = ""
        if self.each_user is None:
            user = ""
        names = (key, model, feature, user)
        found = self._bound.get(names)
        if found is None:
            if len(self._bound) >= _MOST_BOUND:  # of users there may be any number
                self._bound.clear()
            found = self._bound[names] = Bound(tuple(self._scopes(*names)))
        return found

    def budget_scopes(self) -> list[Scope]:
        """All scopes with a budget that are known beforehand."""
        own = Scope("t", "tenant", "tenant", self.own)
        scopes = [own, *(_key(name, one) for name, one in self.keys.items())]
        scopes += [_feature(name, one) for name, one in self.features.items()]
        return [one for one in scopes if one.allowance.budget is not None]

    def funds(self, now_s: int) -> list[Fund]:
        """Of ``budget_scopes``, in the periods that hold ``now_s``."""
        scopes = self.budget_scopes()
        return [one.allowance.budget.fund(one.name, now_s) for one in scopes if one.allowance.budget]

    def alert_at(self, scope: str) -> tuple[float, ...]:
        """The shares of a scope's budget at which somebody is told."""
        kind, _, name = scope.partition(":")
        allowances = {"t": self.own, "k": self.keys.get(name), "f": self.features.get(name)}
        allowance = self.each_user if kind == "u" else allowances.get(kind)
        if allowance is None or allowance.budget is None:
            return ()
        return allowance.budget.alert_at

    def _scopes(self, key: str, model: str, feature: str, user: str) -> list[Scope]:
        scopes = [Scope("t", "tenant", "tenant", self.own)]
        if key in self.keys:
            scopes.append(_key(key, self.keys[key]))
        if model in self.models:
            scopes.append(Scope(f"m:{model}", "model", f"model {model!r}", self.models[model]))
        if feature:
            scopes.append(_feature(feature, self.features[feature]))
        if user and self.each_user is not None:
            scopes.append(Scope(f"u:{user}", "user", f"user {user!r}", self.each_user))
        return scopes


def _key(name: str, allowance: Allowance) -> Scope:
    return Scope(f"k:{name}", "key", f"key {name!r}", allowance)


def _feature(name: str, allowance: Allowance) -> Scope:
    return Scope(f"f:{name}", "feature", f"feature {name!r}", allowance)
