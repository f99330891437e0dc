"""What must hold once a scenario is over and everything is settled."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from gateway.accounting.chain import verify
from gateway.admission.without_store import LEASE_SHARE
from tests.money.fleet import Fleet, nanousd
from tests.money.load import Load

SETTLED_S = 25.0
SOON_S = 5.0


@dataclass
class Found:
    """Of one scenario; money in nano-dollars. ``lost``: calls without a row; ``double``: rows too many.
    ``most_used``: spent and reserved together, the most that was seen."""

    name: str
    requests: int = 0
    admitted: int = 0
    spent: int = 0
    budget: int = 0
    lost: int = 0
    double: int = 0
    most_used: int = 0
    took_s: float = 0.0
    notes: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def must(self, holds: bool, otherwise: str) -> None:
        if not holds:
            self.wrong.append(otherwise)


class Watch:
    """Looks all the time what the store says is used. ``most``: the largest share of the budget, spent and
    reserved together, in nano-dollars."""

    def __init__(self, fleet: Fleet, tenant: str) -> None:
        self._fleet = fleet
        self._tenant = tenant
        self.most = 0

    async def __aenter__(self) -> Watch:
        self._task = asyncio.get_running_loop().create_task(self._look())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _look(self) -> None:
        while True:
            try:
                budget = await self._fleet.budget(self._tenant)
            except (OSError, EOFError, TimeoutError):
                budget = None
            if budget is not None:
                self.most = max(self.most, budget["spent"] + budget["reserved"])
            await asyncio.sleep(0.05)


async def settled(fleet: Fleet, tenant: str, within_s: float, since_s: int = 0) -> dict[str, int]:
    """The tenant's budget, once nothing is reserved any more and the store says of what was admitted from
    ``since_s`` on as the ledgers do; or as it is after ``within_s``."""
    deadline_s = time.monotonic() + within_s
    while True:
        budget = await fleet.budget(tenant)
        if (
            budget is not None
            and budget["reserved"] == 0
            and budget["spent"] == charged(fleet, tenant, since_s)
        ):
            return budget
        if time.monotonic() > deadline_s:
            return budget or {}
        await asyncio.sleep(0.1)


def rows(fleet: Fleet, tenant: str, kind: str = "exchange") -> list[dict[str, Any]]:
    """Of all writers; attempts by the exchange that they belong to."""
    found = []
    for replica in fleet.replicas:
        for row in replica.rows(kind):
            if kind == "attempt" or row["tenant"] == tenant:
                found.append(row)
    return found


def charged(fleet: Fleet, tenant: str, since_s: int = 0) -> int:
    """Nano-dollars, for what was admitted from ``since_s`` on (epoch seconds)."""
    ledger = rows(fleet, tenant)
    return sum(nanousd(row["charged_usd"]) for row in ledger if row["admitted"] >= since_s)


async def audit(
    fleet: Fleet, load: Load, found: Found, *, killed: bool = False, leases: bool = False
) -> None:
    """``killed``: a process ended without saying what it had counted. ``leases``: some of the budget stays
    reserved."""
    tenant = load.tenant
    budget = await settled(fleet, tenant, SOON_S if leases else SETTLED_S, load.since_s)
    ledger = rows(fleet, tenant)
    found.requests += len(load.asked)
    _rows(fleet, load, ledger, found)
    if not budget:
        found.must(False, "the store cannot be asked")
        return
    found.spent, found.budget = budget["spent"], budget["limit"]
    total = charged(fleet, tenant, load.since_s)
    found.must(budget["spent"] == total, f"the store says {budget['spent']}, the ledgers {total}")
    most = budget["limit"] * len(fleet.replicas) // LEASE_SHARE if leases else 0
    found.must(budget["reserved"] <= most, f"{budget['reserved']} stay reserved")
    await _sums(fleet, tenant, ledger, found, killed)
    for replica in fleet.replicas:
        for writer in (replica.data_dir / "ledger").glob("*/"):
            problems = verify(writer)
            found.must(not problems, f"ledger {writer.name}: {problems[:2]}")


def _rows(fleet: Fleet, load: Load, ledger: list[dict[str, Any]], found: Found) -> None:
    calls = fleet.provider.calls
    ids = Counter(row["request_id"] for row in ledger)
    attempts = Counter[str]()
    for row in ledger:
        attempts[row["request_id"]] += len(row["attempts"])
    known = {one.id for one in load.asked}
    admitted = {one.id for one in load.asked if one.status == 200 or calls[one.id] or ids[one.id]}
    lost = [one for one in admitted if not ids[one]]
    double = [one for one, count in ids.items() if count > 1]
    uncertain = {row["request_id"] for row in ledger if _uncertain(row)}
    miscounted = [
        one
        for one in known
        if ids[one] and not (calls[one] == attempts[one] or (one in uncertain and calls[one] <= 1))
    ]
    found.admitted += len(admitted)
    found.lost, found.double = len(lost), len(double)
    found.must(not lost, f"{len(lost)} without a row: {lost[:3]}")
    found.must(not double, f"{len(double)} with more than one row: {double[:3]}")
    found.must(not set(ids) - known, f"rows of nobody: {list(set(ids) - known)[:3]}")
    text = f"{len(miscounted)} with other attempts than calls: " + ", ".join(
        f"{one} {attempts[one]} for {calls[one]}" for one in miscounted[:3]
    )
    found.must(not miscounted, text)


def _uncertain(row: dict[str, Any]) -> bool:
    """Its writer died at the time of the call; or never reached the provider, and charged nothing."""
    return "recovered" in row or nanousd(row["charged_usd"]) == 0


async def _sums(
    fleet: Fleet, tenant: str, ledger: list[dict[str, Any]], found: Found, killed: bool
) -> None:
    cost = sum(nanousd(row["cost_usd"]) for row in ledger)
    if not killed:
        counted = sum([await one.cost_nanousd(tenant) for one in fleet.up])
        found.must(counted == cost, f"the counters say {counted}, the ledgers {cost}")
    for replica in fleet.up:
        deadline_s = time.monotonic() + SOON_S
        while (told := await fleet.spend_nanousd(tenant, replica)) != cost:
            if time.monotonic() > deadline_s:
                found.must(False, f"GET /spend says {told}, the ledgers {cost}")
                break
            await asyncio.sleep(0.2)
