"""Several writers on one store, in both implementations, with what a test must do behind their backs."""

from __future__ import annotations

import asyncio
import itertools
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

from gateway.storage.interface import Store
from gateway.storage.keys import TenantKeys
from gateway.storage.memory import Memory, MemoryState
from gateway.storage.redis import RedisStore
from tests.storage.redis_server import RedisServer

_numbers = itertools.count()


def fresh_tenant() -> str:
    return f"tenant{next(_numbers)}"


class World(Protocol):
    async def writer(self, name: str) -> Store: ...

    def lapse(self, tenant: str, writer: str, in_s: float = 0) -> None:
        """Its lease runs out, at once or soon."""

    def forget(self) -> None:
        """All memory is lost."""

    async def connected(self) -> None:
        """All writers hear messages."""

    async def aclose(self) -> None: ...


class MemoryWorld:
    def __init__(self) -> None:
        self.state = MemoryState()

    async def writer(self, name: str) -> Store:
        return Memory(name, self.state)

    def lapse(self, tenant: str, writer: str, in_s: float = 0) -> None:
        leases = self.state.tenant(tenant).leases
        if writer in leases:
            leases[writer] = self.state.clock() + round(in_s * 1e6)

    def forget(self) -> None:
        self.state.tenants.clear()

    async def connected(self) -> None:
        pass

    async def aclose(self) -> None:
        pass


class RedisWorld:
    def __init__(self, server: RedisServer) -> None:
        self.server = server
        self._stores: list[RedisStore] = []

    async def writer(self, name: str) -> Store:
        store = RedisStore(self.server.url, name, answer_s=5.0)
        self._stores.append(store)
        await store.start()
        assert store.lost is None, store.lost
        return store

    def lapse(self, tenant: str, writer: str, in_s: float = 0) -> None:
        until_us = time.time_ns() // 1000 + round(in_s * 1e6)
        self.server.command("ZADD", TenantKeys(tenant, writer).writers, "XX", until_us, writer)

    def forget(self) -> None:
        self.server.command("FLUSHALL")

    async def connected(self) -> None:
        async with asyncio.timeout(5):
            for store in self._stores:
                await store.listening()

    async def aclose(self) -> None:
        for store in self._stores:
            await store.aclose()


@asynccontextmanager
async def opened(url: str, writer: str = "a", answer_s: float = 5.0) -> AsyncIterator[RedisStore]:
    """A store that has been started, and is closed whatever happens. ``answer_s``: generous, where time is
    not what is tested."""
    store = RedisStore(url, writer, answer_s=answer_s)
    try:
        await store.start()
        yield store
    finally:
        await store.aclose()


def ttl_s(server: RedisServer, key: str) -> int:
    """-1: none, -2: no such key."""
    found = re.match(rb":(-?\d+)", server.command("TTL", key))
    assert found is not None
    return int(found[1])
