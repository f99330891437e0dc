"""The servers behind one URL: one, or those of a cluster, whose map is read again when it proves wrong."""

from __future__ import annotations

import ssl
import time
from collections.abc import Awaitable, Callable
from functools import partial

from gateway.storage import redis_connect
from gateway.storage.guard import Spawn
from gateway.storage.interface import StoreLost
from gateway.storage.keys import SLOTS
from gateway.storage.redis_url import Address, RedisTarget
from gateway.storage.shard import Resolve, Shard

REFRESH_S = 0.3
"""The cluster's map is read no oftener."""


class Shards:
    def __init__(self, target: RedisTarget, spawn: Spawn, changed: Callable[[], None]) -> None:
        self.target = target
        self._tls = ssl.create_default_context() if target.tls else None
        self._spawn = spawn
        self._changed = changed
        self._cluster = target.kind == "cluster"
        self._by_address: dict[Address, Shard] = {}
        self._refreshed_s = 0.0
        first = self._shard(target.addresses[0])
        self._by_slot = [first] * SLOTS

    def at(self, slot: int) -> Shard:
        return self._by_slot[slot]

    def named(self, address: Address) -> Shard:
        """Of a cluster: the node to which another one pointed."""
        return self._by_address.get(address) or self._shard(address)

    @property
    def all(self) -> list[Shard]:
        return list(self._by_address.values())

    @property
    def lost(self) -> str | None:
        for shard in self._by_address.values():
            if shard.guard.lost is not None:
                return shard.guard.lost
        return None

    def give_up(self, reason: str) -> None:
        """None could be reached to begin with; each is probed until it can."""
        for shard in self.all:
            shard.guard.give_up(reason)

    def close(self) -> None:
        for shard in self.all:
            shard.close()

    async def masters(self) -> list[Address]:
        """Of all servers, as it is now; raises ``StoreLost``."""
        if self._cluster:
            await self.refresh()
            return list(self._by_address)
        return [await self.where()]

    async def where(self) -> Address:
        """A server for pub/sub, which reaches all of them; raises ``StoreLost``."""
        if self.target.kind == "sentinel":
            return await redis_connect.find_master(self.target)
        for address, shard in self._by_address.items():
            if shard.guard.lost is None:
                return address
        return self.target.addresses[0]

    def look_again(self) -> None:
        """Something was not where it should be."""
        if self._cluster and time.monotonic() - self._refreshed_s > REFRESH_S:
            self._spawn(self._refresh_if_possible(), "storage_refresh")

    async def refresh(self) -> None:
        """Reads the cluster's map; servers that are not in it are forgotten."""
        self._refreshed_s = time.monotonic()
        known = [*self._by_address, *self.target.addresses]
        ranges = await redis_connect.find_slots(self.target, list(dict.fromkeys(known)))
        for first, last, address in ranges:
            shard = self.named(address)
            self._by_slot[first : last + 1] = [shard] * (last - first + 1)
        used = set(map(id, self._by_slot))
        for address, shard in list(self._by_address.items()):
            if id(shard) not in used:
                del self._by_address[address]
                shard.close()
        self._changed()

    async def _refresh_if_possible(self) -> None:
        try:
            await self.refresh()
        except StoreLost:
            pass

    def _shard(self, address: Address) -> Shard:
        resolve: Resolve = partial(_here, address)
        if self.target.kind == "sentinel":
            resolve = partial(redis_connect.find_master, self.target)
        refresh: Callable[[], Awaitable[None]] | None = self._refresh_if_possible if self._cluster else None
        shard = Shard(self.target, self._tls, resolve, refresh, self._spawn, self._changed)
        self._by_address[address] = shard
        return shard


async def _here(address: Address) -> Address:
    return address
