"""A provider's own quotas: how often all processes together call a deployment, leased in slices.

A slice is about what a second allows. It is taken from synchronously; when half of it is gone, more is
leased in the background. Who finds too little waits for the lease that is under way, ``WAIT_S`` at most.
A deployment whose quota is used up is passed over, as in a cooldown.

Counted is as providers do: a whole limit at once, then a steady refill. So in any T seconds all processes
begin at most ``limit × (1 + T/60)`` calls, and for each process one slice that it held before (where many
waited at once, as many as they were). The same is true of tokens, as far as they are foreseen; what a
request did not use is there for the next, so that the slice held may be larger by one request. While the
store is lost each process has its share of the limits, at least 1.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.routing.leasing import Meter, Metering

if TYPE_CHECKING:
    from gateway.routing.deployment import Group

WAIT_S = 0.1
LEAST_WAIT_S = 0.01


@dataclass(slots=True, frozen=True)
class QuotaPolicy:
    """Requests and tokens a minute; None: no limit."""

    rpm: int | None = None
    tpm: int | None = None


class Part:
    """One limit. ``left``: of what is leased; less than 0 where more was used than foreseen. ``waiting``:
    what those need who wait. ``refused``: so much was not to be had before ``until_s``. ``seen``: what
    the store had left at ``seen_s``."""

    __slots__ = ("counter", "left", "limit", "refused", "seen", "seen_s", "size", "until_s", "waiting")

    def __init__(self, counter: str, limit: int, now_s: float) -> None:
        self.counter = counter
        self.limit = self.seen = limit
        self.size = max(limit // 60, 1)
        self.left = self.waiting = self.refused = 0
        self.seen_s = self.until_s = now_s

    @property
    def low(self) -> bool:
        return 2 * self.left <= self.size

    @property
    def empty(self) -> bool:
        """As far as can be said without knowing for what."""
        return self.left < min(self.size, self.refused)

    def lack(self, need: int) -> int:
        return max(need - self.left, 0)

    def hopeless(self, lack: int, now_s: float) -> bool:
        return now_s < self.until_s and lack >= self.refused

    def wanted(self, lack: int) -> int:
        """What to lease: what is missing, for a slice and for those who wait."""
        return min(max(self.size - self.left, self.waiting - self.left, lack, 0), self.limit)

    def shown(self, now_s: float) -> int:
        """What is left, as far as this process knows."""
        refilled = int((now_s - self.seen_s) * self.limit / 60)
        return max(min(self.limit, self.seen + refilled) + self.left, 0)


class Quota:
    """One deployment's, in this process. ``tokens``: what a request is foreseen to use."""

    __slots__ = ("_asked", "_leasing", "_meter", "_metering", "_parts", "policy")

    def __init__(self, deployment: str, policy: QuotaPolicy, metering: Metering) -> None:
        self.policy = policy
        limits = [(name, n) for name, n in (("rpm", policy.rpm), ("tpm", policy.tpm)) if n is not None]
        self._parts = [Part(name, limit, metering.clock_s()) for name, limit in limits]
        self._meter = Meter(deployment, limits, metering)
        self._metering = metering
        self._leasing: asyncio.Event | None = None
        self._asked = False

    def take(self, tokens: int, now_s: float) -> bool:
        """Whether a call may begin; it is counted then."""
        lacks = self._lacks(tokens)
        enough = not any(lacks)
        if enough:
            for part, need in zip(self._parts, self._needs(tokens), strict=True):
                part.left -= need
        if not enough or any(part.low for part in self._parts):
            self._lease([0] * len(lacks) if enough else lacks, now_s)
        return enough

    def used(self, foreseen: int, tokens: int) -> None:
        """A call has ended for which ``foreseen`` was taken."""
        for part in self._parts:
            if part.counter == "tpm":
                taken = min(foreseen, part.limit)
                part.left = min(part.left + taken - tokens, part.size + taken)

    def give_back(self, tokens: int) -> None:
        """A call that was counted is not made after all."""
        for part, need in zip(self._parts, self._needs(tokens), strict=True):
            part.left += need

    def free_at_s(self, now_s: float) -> float:
        """When a call may begin: ``now_s``, or later."""
        return max([now_s, *(part.until_s for part in self._parts if part.empty)])

    def left(self) -> dict[str, int]:
        """By limit, in the store and here."""
        now_s = self._metering.clock_s()
        return {part.counter: part.shown(now_s) for part in self._parts}

    def prime(self) -> None:
        """Leases a first slice, in the background."""
        if not self._asked:
            self._lease([0] * len(self._parts), self._metering.clock_s())

    async def ready(self, tokens: int) -> None:
        """Returns when there is enough, or a lease would not bring it."""
        if not any(self._lacks(tokens)):
            return
        needs = self._needs(tokens)
        for part, need in zip(self._parts, needs, strict=True):
            part.waiting += need
        try:
            while any(lacks := self._lacks(tokens)):
                leasing = self._lease(lacks, self._metering.clock_s())
                if leasing is None:
                    return
                await leasing.wait()
        finally:
            for part, need in zip(self._parts, needs, strict=True):
                part.waiting -= need

    def _needs(self, tokens: int) -> list[int]:
        """What exceeds a whole limit needs all of it: then it is the provider's to decide."""
        return [1 if part.counter == "rpm" else min(tokens, part.limit) for part in self._parts]

    def _lacks(self, tokens: int) -> list[int]:
        needs = self._needs(tokens)
        return [part.lack(need) for part, need in zip(self._parts, needs, strict=True)]

    def _lease(self, lacks: Sequence[int], now_s: float) -> asyncio.Event | None:
        """Set when the lease under way has ended, a new one if need be; None where it is hopeless."""
        if self._leasing is None:
            if self._hopeless(lacks, now_s):
                return None
            self._asked = True
            self._leasing = asyncio.Event()
            self._metering.spawn(self._fetch(lacks), "quota")
        return self._leasing

    def _hopeless(self, lacks: Sequence[int], now_s: float) -> bool:
        if any(lacks):
            pairs = zip(self._parts, lacks, strict=True)
            return any(lack and part.hopeless(lack, now_s) for part, lack in pairs)
        return any(part.hopeless(1, now_s) for part in self._parts if part.low)

    async def _fetch(self, lacks: Sequence[int]) -> None:
        try:
            costs = [part.wanted(lack) for part, lack in zip(self._parts, lacks, strict=True)]
            if any(costs) and not await self._fetched(costs):
                triples = zip(self._parts, costs, lacks, strict=True)
                fewer = [min(cost, max(lack, part.seen, 1)) for part, cost, lack in triples]
                if fewer != costs:
                    await self._fetched(fewer)
        finally:
            leasing, self._leasing = self._leasing, None
            if leasing is not None:
                leasing.set()
        await self._meter.settle()

    async def _fetched(self, costs: Sequence[int]) -> bool:
        leased = await self._meter.lease(costs)
        now_s = self._metering.clock_s()
        for part, remaining in zip(self._parts, leased.remaining, strict=True):
            part.seen, part.seen_s = remaining, now_s
        if leased.refused is not None:
            short = self._parts[leased.refused]
            short.refused = costs[leased.refused]
            short.until_s = now_s + max(leased.wait_s, LEAST_WAIT_S)
            return False
        for part, cost in zip(self._parts, costs, strict=True):
            part.left += cost
        return True


class Quotas:
    """Of all deployments, by id: they outlive every reload."""

    def __init__(self, metering: Metering) -> None:
        self._metering = metering
        self._known: dict[str, Quota] = {}

    def quota(self, deployment: str, policy: QuotaPolicy | None) -> Quota | None:
        """None: without a limit. A changed policy begins anew."""
        if policy is None or policy == QuotaPolicy():
            return None
        known = self._known.get(deployment)
        if known is None or known.policy != policy:
            known = self._known[deployment] = Quota(deployment, policy, self._metering)
        return known

    def retain(self, groups: Mapping[str, Group]) -> None:
        """Forgets what no group names any more."""
        used = {one.quota for group in groups.values() for one in group.deployments}
        self._known = {name: quota for name, quota in self._known.items() if quota in used}


async def slices(quotas: Sequence[Quota], tokens: int) -> None:
    """Returns when all can be taken from, as far as that can be had; after ``WAIT_S`` at most."""
    for quota in quotas:
        quota.prime()
    try:
        async with asyncio.timeout(WAIT_S):
            for quota in quotas:
                await quota.ready(tokens)
    except TimeoutError:
        return
