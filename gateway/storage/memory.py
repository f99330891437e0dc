"""The store of one process: nothing is shared, nothing can be lost but with the process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence

from gateway.storage.interface import (
    LEASE_S,
    Ask,
    Fund,
    FundState,
    Heard,
    Report,
    Settled,
    Spent,
    Verdict,
)
from gateway.storage.memory_counters import TenantCounters
from gateway.storage.memory_records import MemoryRecords


def wall_us() -> int:
    """Microseconds since the epoch."""
    return time.time_ns() // 1000


class MemoryState:
    """What several ``Memory`` see, each as a writer of its own. ``clock``: epoch microseconds."""

    def __init__(self, clock: Callable[[], int] = wall_us) -> None:
        self.clock = clock
        self.tenants: dict[str, TenantCounters] = {}
        self.records = MemoryRecords(lambda: clock() / 1e6)
        self.fleet: dict[str, int] = {}
        self.listeners: list[Heard] = []

    def tenant(self, name: str) -> TenantCounters:
        counters = self.tenants.get(name)
        if counters is None:
            counters = self.tenants[name] = TenantCounters()
        return counters


class Memory:
    """A ``Store``. ``state``: to be shared with other writers of this process, in tests say."""

    shared = False
    lost: str | None = None
    warnings: list[str]

    def __init__(self, writer: str, state: MemoryState | None = None) -> None:
        self.writer = writer
        self.warnings = []
        self.state = MemoryState() if state is None else state
        self._clock = self.state.clock
        self._records = self.state.records

    def on_behalf(self, writer: str) -> Memory:
        return Memory(writer, self.state)

    def on_change(self, changed: Callable[[str | None], None]) -> None:
        """``changed`` is never called: this store cannot be lost."""

    async def start(self) -> None:
        pass

    async def aclose(self) -> None:
        pass

    # -- admissions

    async def admit(self, ask: Ask) -> Verdict:
        return self.state.tenant(ask.tenant).admit(self.writer, ask, self._clock())

    async def settle(self, tenant: str, ended: Sequence[Settled], spent: Sequence[Spent]) -> Report:
        return self.state.tenant(tenant).settle(self.writer, ended, spent, self._clock())

    async def register(
        self, tenant: str, open: Sequence[Ask], spent: Sequence[Spent], *, lost: bool
    ) -> Report:
        return self.state.tenant(tenant).register(self.writer, open, spent, lost, self._clock())

    async def renew(self, tenant: str) -> Report:
        return self.state.tenant(tenant).renew(self.writer, self._clock())

    async def fund_states(self, tenant: str, funds: Sequence[Fund]) -> list[FundState]:
        counters = self.state.tenant(tenant)
        return [counters.fund_state(fund) for fund in funds]

    async def fleet(self) -> int:
        now_us, fleet = self._clock(), self.state.fleet
        fleet[self.writer] = now_us + int(LEASE_S * 1e6)
        for writer in [writer for writer, until_us in fleet.items() if until_us <= now_us]:
            del fleet[writer]
        return len(fleet)

    # -- records

    async def get(self, key: str) -> bytes | None:
        return self._records.get(key)

    async def put(self, key: str, value: bytes, ttl_s: float) -> None:
        self._records.put(key, value, ttl_s)

    async def put_new(self, key: str, value: bytes, ttl_s: float) -> bytes | None:
        present = self._records.get(key)
        if present is None:
            self._records.put(key, value, ttl_s)
        return present

    async def replace(self, key: str, expected: bytes, value: bytes | None, ttl_s: float) -> bool:
        if self._records.get(key) != expected:
            return False
        if value is None:
            self._records.drop(key)
        else:
            self._records.put(key, value, ttl_s)
        return True

    async def fields(self, key: str) -> dict[str, bytes]:
        return dict(self._records.fields(key))

    async def put_fields(self, key: str, fields: Mapping[str, bytes], ttl_s: float) -> None:
        if fields:
            self._records.put_fields(key, fields, ttl_s)

    async def drop_fields(self, key: str, names: Sequence[str]) -> None:
        self._records.drop_fields(key, names)

    async def add(self, key: str, amount: int, ttl_s: float) -> int:
        return self._records.add(key, amount, ttl_s)

    async def bump(self, tenants: Sequence[str]) -> None:
        for tenant in tenants:
            self.state.tenant(tenant).epoch += 1

    # -- bus

    async def publish(self, topic: str, message: bytes) -> None:
        loop = asyncio.get_running_loop()
        for heard in self.state.listeners:
            loop.call_soon(heard, topic, message)

    def listen(self, heard: Heard) -> None:
        self.state.listeners.append(heard)
