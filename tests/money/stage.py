"""A scenario, and what all of them have in common."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from tests.fakes.cutting import CuttingProxy
from tests.money.audit import Found, Watch, audit, settled
from tests.money.fleet import NANO, Fleet, Replica, worst_nanousd
from tests.money.load import AT_ONCE, Asked, Load

PLACES = 10
MOST_ROUNDS = 60


@dataclass
class Stage:
    """Where a scenario plays: ``load`` asks for its tenant. ``worst``: what is reserved for a request.
    ``proxy``: in front of Redis, if there is one."""

    fleet: Fleet
    load: Load
    found: Found
    worst: int
    proxy: CuttingProxy | None = None

    @property
    def tenant(self) -> str:
        return self.load.tenant

    def admitted(self, asked: Sequence[Asked]) -> int:
        calls = self.fleet.provider.calls
        return sum(one.status == 200 or calls[one.id] > 0 for one in asked)

    async def until_spent(self) -> None:
        """Bursts until nothing more is admitted although nothing is reserved."""
        for _ in range(MOST_ROUNDS):
            asked = await self.load.burst()
            if not self.admitted(asked) and all(one.final for one in asked if one.status):
                break
            await self.settled(3.0)
        else:
            codes = Counter(one.code or str(one.status) for one in asked)
            self.found.must(False, f"not spent after {MOST_ROUNDS} bursts: {dict(codes)}")
        budget = await self.settled(3.0)
        left = budget.get("remaining", 0)
        self.found.must(left < self.worst, f"{left} are left, which would have paid for one more")

    async def settled(self, within_s: float) -> dict[str, int]:
        """As ``audit.settled``."""
        return await settled(self.fleet, self.tenant, within_s, self.load.since_s)

    async def busiest(self, count: int = 3, within_s: float = 5.0) -> Replica:
        """The first replica that has so many requests at the provider."""
        deadline_s = time.monotonic() + within_s
        while time.monotonic() < deadline_s:
            for replica, running in self.load.in_flight().items():
                if running >= count:
                    return replica
            await asyncio.sleep(0.001)
        self.found.must(False, f"no replica had {count} requests under way")
        return self.fleet.up[0]

    @asynccontextmanager
    async def bursting(
        self, count: int = AT_ONCE, replicas: Sequence[Replica] | None = None
    ) -> AsyncIterator[None]:
        """A burst that goes on meanwhile, and has ended afterwards."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.load.burst(count, replicas))
            yield

    def note(self, text: str) -> None:
        self.found.notes.append(text)


Run = Callable[[Stage], Awaitable[None]]


@dataclass(frozen=True)
class Scenario:
    """``settings``: of the tenant, beside its budget, which pays for ``places`` worst cases. ``others``:
    tenants beside it. ``hold_s``: how long the provider takes. ``most``: requests that may run at a time
    (default: ``places``). ``killed``: a process ends with its counters. ``leases``: some of the budget
    stays reserved for a lost store. ``place``: a fleet of its own, behind the proxy or before a full hour.
    """

    name: str
    run: Run
    settings: Mapping[str, Any] = field(default_factory=dict)
    others: Mapping[str, Any] = field(default_factory=dict)
    places: int = PLACES
    period: str = "total"
    hold_s: float = 0.15
    most: int | None = None
    killed: bool = False
    leases: bool = False
    place: Literal["plain", "proxied", "shifted"] = "plain"
    model: str = "chat"
    leaves_every: int = 7

    @property
    def tenant(self) -> str:
        return self.name.replace(" ", "-").replace(",", "")

    def tenants(self) -> dict[str, Any]:
        worst = worst_nanousd(self.tenant)
        settings = {
            "budget": {"usd": f"{(self.places * worst + worst // 2) / NANO:.9f}", "period": self.period},
            "on_storage_loss": {"limits": "local_share", "budget": "deny"},
            **self.settings,
        }
        return {self.tenant: settings, **self.others}


async def play(scenario: Scenario, fleet: Fleet, proxy: CuttingProxy | None = None) -> Found:
    began_s = time.monotonic()
    found = Found(scenario.name)
    load = Load(fleet, scenario.tenant, model=scenario.model, leaves_every=scenario.leaves_every)
    stage = Stage(fleet, load, found, worst_nanousd(scenario.tenant), proxy)
    fleet.provider.begin(scenario.hold_s)
    async with Watch(fleet, scenario.tenant) as watch:
        try:
            await scenario.run(stage)
        except Exception as error:  # one scenario's failure is not the others'
            found.must(False, f"could not be played: {error!r}")
        await audit(fleet, load, found, killed=scenario.killed, leases=scenario.leases)
    found.most_used = watch.most
    found.must(watch.most <= found.budget, f"{watch.most} of {found.budget} were used at a time")
    found.must(found.spent <= found.budget, f"{found.spent} of {found.budget} were spent")
    most = scenario.most or scenario.places
    found.must(fleet.provider.most <= most, f"{fleet.provider.most} ran at a time, of {most}")
    found.took_s = time.monotonic() - began_s
    return found
