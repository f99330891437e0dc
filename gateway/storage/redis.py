"""The store that processes share: counters in Lua scripts, records, messages."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from gateway.storage import keys, redis_bus, redis_connect, redis_url
from gateway.storage.interface import Heard, StoreLost, StoreRefused
from gateway.storage.redis_admissions import RedisAdmissions
from gateway.storage.redis_calls import RedisCalls
from gateway.storage.redis_records import RedisRecords
from gateway.storage.shard import LinkRefused
from gateway.storage.shards import Shards
from gateway.tasks import Tasks

START_S = 1.0
START_TRIES = 3
START_PAUSE_S = 0.1

_log = logging.getLogger(__name__)


class RedisStore(RedisAdmissions, RedisRecords):
    """A ``Store``. ``warnings``: what ``start`` found to be unwise about the server."""

    shared = True

    def __init__(self, url: str, writer: str, *, answer_s: float = redis_url.ANSWER_S) -> None:
        """``answer_s``: how long one call may take. Raises ``StoreRefused`` for an URL that says nothing
        sensible."""
        self.warnings: list[str] = []
        self._tasks = Tasks(_failed)
        self._listeners: list[Callable[[str | None], None]] = []
        self._was_lost = False
        target = redis_url.parse(url, answer_s)
        self._shards = Shards(target, self._tasks.spawn, self._look_whether_lost)
        self._listening = redis_bus.Listening(target, self._shards.where)
        super().__init__(RedisCalls(self._shards), writer)

    @property
    def lost(self) -> str | None:
        return self._shards.lost

    def on_behalf(self, writer: str) -> RedisAdmissions:
        return RedisAdmissions(self._calls, writer)

    def on_change(self, changed: Callable[[str | None], None]) -> None:
        self._listeners.append(changed)

    async def start(self) -> None:
        self._tasks.spawn(self._listening.run(), "storage_bus")
        try:
            async with asyncio.timeout(START_S):
                self.warnings = await self._look_a_few_times()
        except LinkRefused as refused:
            raise StoreRefused(str(refused)) from None
        except StoreLost as lost:
            self._shards.give_up(str(lost))
        except TimeoutError:
            self._shards.give_up(f"Redis did not answer in {START_S} s.")

    async def aclose(self) -> None:
        self._shards.close()
        await self._tasks.close()

    async def bump(self, tenants: Sequence[str]) -> None:
        names = [self._tenant(tenant) for tenant in tenants]
        bumps = [self._calls.ask(name.slot_number, ("INCR", name.epoch)) for name in names]
        for outcome in await asyncio.gather(*bumps, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome

    async def publish(self, topic: str, message: bytes) -> None:
        words = ("PUBLISH", keys.BUS, redis_bus.packed(topic, message))
        await self._calls.ask(keys.slot_number(keys.FLEET), words)

    def listen(self, heard: Heard) -> None:
        self._listening.heard.append(heard)

    async def listening(self) -> None:
        """Waits until messages come to this process."""
        await self._listening.subscribed.wait()

    async def _look_a_few_times(self) -> list[str]:
        for _ in range(START_TRIES - 1):
            try:
                return await self._look_at_all()
            except LinkRefused:
                raise
            except StoreLost:
                await asyncio.sleep(START_PAUSE_S)
        return await self._look_at_all()

    async def _look_at_all(self) -> list[str]:
        """Warnings about every server; raises ``StoreLost`` and ``StoreRefused``."""
        warnings: list[str] = []
        for address in await self._shards.masters():
            warnings += await redis_connect.inspect(self._shards.target, address)
        for shard in self._shards.all:
            await shard.hot.opened()
        return warnings

    def _look_whether_lost(self) -> None:
        lost = self.lost
        if (lost is not None) == self._was_lost:
            return
        self._was_lost = lost is not None
        for changed in self._listeners:
            changed(lost)


def _failed(event: str, error: BaseException, _: str) -> None:
    _log.error("%s: %s", event, error, exc_info=error)
