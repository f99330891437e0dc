"""Records and the bus, in memory and in Redis."""

from __future__ import annotations

import asyncio

import pytest

from gateway.storage.interface import Store
from tests.storage.worlds import World


@pytest.fixture
async def store(world: World) -> Store:
    return await world.writer("a")


async def test_put_and_get(store: Store) -> None:
    assert await store.get("k") is None
    await store.put("k", b"\x00\xff\r\n", 0)
    assert await store.get("k") == b"\x00\xff\r\n"
    await store.put("k", b"", 60)
    assert await store.get("k") == b""


async def test_what_has_a_time_to_live_goes(store: Store) -> None:
    await store.put("short", b"1", 0.05)
    await store.put("long", b"1", 60)
    await store.put_fields("hash", {"f": b"1"}, 0.05)
    await store.add("sum", 1, 0.05)
    await asyncio.sleep(0.1)
    assert await store.get("short") is None
    assert await store.get("long") == b"1"
    assert await store.fields("hash") == {}
    assert await store.add("sum", 1, 0) == 1


async def test_put_new_keeps_what_is_there(store: Store) -> None:
    assert await store.put_new("k", b"1", 60) is None
    assert await store.put_new("k", b"2", 0) == b"1"
    assert await store.get("k") == b"1"
    assert await store.put_new("brief", b"1", 0.05) is None
    await asyncio.sleep(0.1)
    assert await store.put_new("brief", b"2", 0) is None


async def test_replace_what_is_expected(store: Store) -> None:
    assert not await store.replace("k", b"1", b"2", 0)
    assert not await store.replace("k", b"", b"2", 0)
    await store.put("k", b"1", 0)
    assert not await store.replace("k", b"2", b"3", 0)
    assert await store.replace("k", b"1", b"2", 60)
    assert await store.get("k") == b"2"
    assert not await store.replace("k", b"1", None, 0)
    assert await store.replace("k", b"2", None, 0)
    assert await store.get("k") is None


async def test_fields(store: Store) -> None:
    assert await store.fields("h") == {}
    await store.put_fields("h", {"a": b"1", "ü": b"\xff"}, 60)
    await store.put_fields("h", {"a": b"2", "c": b""}, 0)
    await store.put_fields("h", {}, 0)
    assert await store.fields("h") == {"a": b"2", "ü": b"\xff", "c": b""}
    await store.drop_fields("h", ["a", "nowhere"])
    await store.drop_fields("h", [])
    assert await store.fields("h") == {"ü": b"\xff", "c": b""}
    await store.drop_fields("h", ["ü", "c"])
    assert await store.fields("h") == {}
    await store.drop_fields("h", ["a"])


async def test_fields_are_the_callers_own(store: Store) -> None:
    await store.put_fields("h", {"a": b"1"}, 0)
    (await store.fields("h"))["b"] = b"2"
    assert await store.fields("h") == {"a": b"1"}


async def test_add_is_exact(store: Store) -> None:
    assert await store.add("n", 5, 60) == 5
    assert await store.add("n", -7, 60) == -2
    assert await store.add("n", 2**62 + 3, 0) == 2**62 + 1
    assert await store.get("n") == b"%d" % (2**62 + 1)


async def test_writers_see_the_same_records(world: World) -> None:
    a, b = await world.writer("a"), await world.writer("b")
    await a.put("k", b"1", 0)
    assert await b.get("k") == b"1"
    outcomes = await asyncio.gather(*(one.put_new("lock", one.writer.encode(), 9) for one in (a, b, a, b)))
    assert outcomes.count(None) == 1


async def test_messages_come_to_every_process_and_every_listener(world: World) -> None:
    a, b = await world.writer("a"), await world.writer("b")
    heard: list[tuple[str, str, bytes]] = []

    def hears(name: str, store: Store) -> None:
        store.listen(lambda topic, message: heard.append((name, topic, message)))

    hears("a", a)
    hears("a too", a)
    hears("b", b)
    await world.connected()
    await a.publish("kill", b"line\nand \x00")
    await b.publish("epoch", b"")
    async with asyncio.timeout(5):
        while len(heard) < 6:
            await asyncio.sleep(0.005)
    assert {(name, topic) for name, topic, _ in heard} == {
        (name, topic) for name in ("a", "a too", "b") for topic in ("kill", "epoch")
    }
    assert {message for _, topic, message in heard if topic == "kill"} == {b"line\nand \x00"}
