"""Small values by key, each under a name of its own in Redis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gateway.storage import keys, scripts
from gateway.storage.link import Reply, Word
from gateway.storage.redis_calls import RedisCalls


class RedisRecords:
    """Every write sets the time to live anew. What is not safe to repeat is not repeated."""

    _calls: RedisCalls

    async def get(self, key: str) -> bytes | None:
        value: bytes | None = await self._ask("GET", key)
        return value

    async def put(self, key: str, value: bytes, ttl_s: float) -> None:
        ttl = ("PX", _ms(ttl_s)) if ttl_s else ()
        await self._ask("SET", key, value, *ttl)

    async def put_new(self, key: str, value: bytes, ttl_s: float) -> bytes | None:
        name = keys.record(key)
        words: list[Word] = [1, name, value, _ms(ttl_s)]
        slot = keys.slot_number(name)
        present: bytes | None = await self._calls.run(scripts.PUT_NEW, slot, words, again=False, large=True)
        return present

    async def replace(self, key: str, expected: bytes, value: bytes | None, ttl_s: float) -> bool:
        name = keys.record(key)
        words: list[Word] = [1, name, expected, _ms(ttl_s)]
        if value is not None:
            words.append(value)
        slot = keys.slot_number(name)
        replaced = await self._calls.run(scripts.REPLACE, slot, words, again=False, large=True)
        return bool(replaced)

    async def fields(self, key: str) -> dict[str, bytes]:
        flat: list[bytes] = await self._ask("HGETALL", key)
        return {flat[at].decode(): flat[at + 1] for at in range(0, len(flat), 2)}

    async def put_fields(self, key: str, fields: Mapping[str, bytes], ttl_s: float) -> None:
        if not fields:
            return
        name = keys.record(key)
        words: list[Word] = [1, name, _ms(ttl_s)]
        for field, value in fields.items():
            words += (field, value)
        await self._calls.run(scripts.PUT_FIELDS, keys.slot_number(name), words, large=True)

    async def drop_fields(self, key: str, names: Sequence[str]) -> None:
        if names:
            await self._ask("HDEL", key, *names)

    async def add(self, key: str, amount: int, ttl_s: float) -> int:
        name = keys.record(key)
        words: list[Word] = [1, name, amount, _ms(ttl_s)]
        return int(
            await self._calls.run(scripts.ADD, keys.slot_number(name), words, again=False, large=True)
        )

    async def _ask(self, command: str, key: str, *words: Word) -> Reply:
        name = keys.record(key)
        return await self._calls.ask(keys.slot_number(name), (command, name, *words), large=True)


def _ms(ttl_s: float) -> int:
    return max(1, round(ttl_s * 1000)) if ttl_s else 0
