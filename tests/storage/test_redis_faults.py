"""What a sick Redis costs, and what becomes of the counters: real servers, frozen, killed, emptied."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator

import pytest

from gateway.storage.interface import (
    Ask,
    Fund,
    FundClaim,
    FundState,
    RateClaim,
    Settled,
    SlotClaim,
    StoreLost,
    StoreRefused,
    Verdict,
)
from gateway.storage.keys import TenantKeys
from gateway.storage.redis import RedisStore
from tests.fakes.cutting import CuttingProxy
from tests.storage.redis_server import RedisServer, redis_server
from tests.storage.worlds import opened, ttl_s

T = "acme"
FUND = Fund("month", 10**6, 0, 0)


@pytest.fixture
async def store(own_server: RedisServer) -> AsyncIterator[RedisStore]:
    async with opened(own_server.url, answer_s=0.1) as store:
        await store.register(T, [], [], lost=False)
        yield store


@pytest.fixture
async def patient(own_server: RedisServer) -> AsyncIterator[RedisStore]:
    """Where time is not what is tested."""
    async with opened(own_server.url) as store:
        await store.register(T, [], [], lost=False)
        yield store


def spend(number: int, amount: int = 1) -> Ask:
    return Ask(T, number, [RateClaim("rpm", 10**6, 1)], [SlotClaim("s", 10**6)], [FundClaim(FUND, amount)])


async def cost_s(store: RedisStore, number: int) -> float:
    """How long it takes to fail."""
    asked_s = time.monotonic()
    with pytest.raises(StoreLost):
        await store.admit(spend(number))
    return time.monotonic() - asked_s


async def soon(store: RedisStore, ask: Ask) -> Verdict:
    """Its verdict, though a busy machine may need more than one try."""
    async with asyncio.timeout(10):
        while True:
            try:
                return await store.admit(ask)
            except StoreLost:
                await asyncio.sleep(0.05)


async def until_back(store: RedisStore) -> None:
    async with asyncio.timeout(10):
        while store.lost is not None:
            await asyncio.sleep(0.02)


async def test_a_frozen_server_costs_the_first_few_a_little_and_then_nothing(
    store: RedisStore, own_server: RedisServer
) -> None:
    changes: list[str | None] = []
    store.on_change(changes.append)
    own_server.freeze()
    first = [await cost_s(store, number) for number in range(3)]
    assert max(first) < 0.5
    assert store.lost is not None
    later = [await cost_s(store, number) for number in range(200)]
    assert sum(later) < 1
    await asyncio.sleep(1.5)
    assert sum([await cost_s(store, number) for number in range(200)]) < 1
    own_server.thaw()
    await until_back(store)
    assert (await soon(store, spend(500))).decision == "admitted"
    assert [change is None for change in changes] == [False, True]


async def test_a_short_pause_is_no_loss(store: RedisStore, own_server: RedisServer) -> None:
    changes: list[str | None] = []
    store.on_change(changes.append)
    own_server.freeze()
    waiting = asyncio.gather(
        *(store.admit(spend(number)) for number in range(1000)), return_exceptions=True
    )
    await asyncio.sleep(0.15)
    own_server.thaw()
    outcomes = await waiting
    assert all(isinstance(outcome, StoreLost | Verdict) for outcome in outcomes)  # a slow loop hears some
    await asyncio.sleep(0.05)
    assert (await soon(store, spend(2000))).decision == "admitted"
    assert changes == []


async def test_a_slow_server_is_lost_once(own_server: RedisServer) -> None:
    """It answers all the time, but too late: the guard does not open and shut."""
    async with CuttingProxy(own_server.port) as cutter, opened(cutter.url, answer_s=0.1) as store:
        changes: list[str | None] = []
        store.on_change(changes.append)
        cutter.delay_s = 0.2
        until_s = time.monotonic() + 3
        while time.monotonic() < until_s:
            with pytest.raises(StoreLost):
                await store.admit(Ask(T, 1))
            await asyncio.sleep(0.01)
        assert len(changes) == 1
        cutter.delay_s = 0.0
        await until_back(store)
        assert (await soon(store, Ask(T, 1))).decision == "admitted"


async def test_a_thousand_do_not_stampede(own_server: RedisServer) -> None:
    async with opened(own_server.url) as store:
        own_server.kill()
        own_server.restart()
        before = _connections(own_server)
        outcomes = await asyncio.gather(
            *(store.admit(Ask(T, number, [RateClaim("rpm", 10**6, 1)])) for number in range(1000))
        )
        assert {outcome.decision for outcome in outcomes} == {"admitted"}
        assert _connections(own_server) - before <= 6


def _connections(server: RedisServer) -> int:
    """How many were ever accepted."""
    info = server.command("INFO", "stats").decode()
    return int(info.split("total_connections_received:")[1].split("\r")[0])


async def test_killed_and_started_anew(store: RedisStore, own_server: RedisServer) -> None:
    await store.admit(spend(1, 7))
    own_server.kill()
    spans = [await cost_s(store, number) for number in range(2, 12)]
    assert sum(spans) < 0.9
    assert store.lost is not None
    assert str(own_server.port) in store.lost
    own_server.restart()
    await until_back(store)
    assert (await soon(store, spend(2))).decision == "register"
    await store.register(T, [spend(1, 7)], [], lost=True)
    assert (await store.fund_states(T, [FUND])) == [FundState(0, 7)]


async def test_a_server_that_is_not_there_yet() -> None:
    with redis_server() as server:
        server.kill()
        async with opened(server.url, answer_s=0.1) as store:
            assert store.lost is not None
            assert await cost_s(store, 1) < 0.5
            server.restart()
            await until_back(store)
            await store.register(T, [], [], lost=False)
            assert (await store.admit(spend(1))).decision == "admitted"


async def test_forgotten_scripts_are_sent_again(store: RedisStore, own_server: RedisServer) -> None:
    own_server.command("SCRIPT", "FLUSH")
    outcomes = await asyncio.gather(*(store.admit(spend(number)) for number in range(50)))
    assert {outcome.decision for outcome in outcomes} == {"admitted"}
    assert (await store.fund_states(T, [FUND])) == [FundState(0, 50)]
    assert store.lost is None


async def test_who_gives_up_disturbs_nobody(patient: RedisStore) -> None:
    """Each verdict tells the cost of its own request, and each request asks another counter."""
    pick = random.Random(1)

    async def ask(number: int) -> None:
        claim = RateClaim(f"r{number}", 10**6, number)
        verdict = await patient.admit(Ask(T, number, [claim]))
        assert verdict.rates[0].remaining == 10**6 - number

    for turn in range(20):
        tasks = [asyncio.get_running_loop().create_task(ask(turn * 1000 + n)) for n in range(100)]
        await asyncio.sleep(pick.choice([0, 0, 0.0005]))
        victims = pick.sample(tasks, 50)
        for task in victims:
            task.cancel()
        for task in tasks:
            if task not in victims:
                await task
    await asyncio.sleep(0.15)
    assert (await soon(patient, spend(10**7))).decision == "admitted"


async def test_a_lost_answer_is_asked_for_again_and_counted_once(own_server: RedisServer) -> None:
    async with CuttingProxy(own_server.port) as cutter, opened(cutter.url) as store:
        await store.register(T, [], [], lost=False)
        await store.admit(Ask(T, 0))
        await store.add("sum", 0, 60)
        cutter.cut(b"EVALSHA")
        assert (await store.admit(spend(1, 5))).funds == [FundState(0, 5)]
        assert cutter.cuts == 1
        cutter.cut(b"EVALSHA")
        with pytest.raises(StoreLost):
            await store.add("sum", 1, 60)
        assert await store.add("sum", 0, 60) == 1
        assert (await store.admit(spend(1, 5))).funds == [FundState(0, 5)]
        await store.settle(T, [Settled(1)], [])
        assert (await store.fund_states(T, [FUND])) == [FundState(0, 0)]
        assert store.lost is None


async def test_a_wrong_password_is_refused() -> None:
    with redis_server("--requirepass", "s3cr%t/@") as server:
        for url in (server.url, server.url.replace("//", "//:wrong@")):
            store = RedisStore(url, "a")
            with pytest.raises(StoreRefused, match="password"):
                await store.start()
            await store.aclose()
        for user in ("", "default"):
            async with opened(server.url.replace("//", f"//{user}:s3cr%25t%2F%40@") + "/3") as store:
                assert store.lost is None
                await store.put("k", b"1", 0)
        assert b"unknown" not in server.command("AUTH", "s3cr%t/@")


async def test_a_changed_password_loses_the_store(store: RedisStore, own_server: RedisServer) -> None:
    own_server.command("CLIENT", "KILL", "TYPE", "normal")
    own_server.command("CONFIG", "SET", "requirepass", "new")
    for number in range(3):
        await cost_s(store, number)
    assert store.lost is not None
    assert "password" in store.lost


async def test_a_replica_is_no_store() -> None:
    with (
        redis_server("--repl-diskless-sync", "no") as master,
        redis_server("--replicaof", "127.0.0.1", str(master.port)) as replica,
    ):
        replica.wait_for(lambda: b"link_status:up" in replica.command("INFO", "replication"), "sync")
        async with opened(replica.url, answer_s=0.1) as store:
            for _ in range(3):
                with pytest.raises(StoreLost, match="replica"):
                    await store.register(T, [], [], lost=False)
            assert store.lost is not None
            assert "read-only replica" in store.lost
            replica.command("REPLICAOF", "NO", "ONE")
            await until_back(store)
            assert (await store.register(T, [], [], lost=False)).known


async def test_a_full_server(store: RedisStore, own_server: RedisServer) -> None:
    own_server.command("CONFIG", "SET", "maxmemory", "1")
    with pytest.raises(StoreLost, match="out of memory"):
        await store.admit(spend(1))
    own_server.command("CONFIG", "SET", "maxmemory", "0")
    assert (await store.admit(spend(2))).funds == [FundState(0, 1)]


async def test_a_busy_server(store: RedisStore, own_server: RedisServer) -> None:
    own_server.command("CONFIG", "SET", "busy-reply-threshold", "1")
    own_server.send("EVAL", "while true do end", 0)
    await asyncio.sleep(0.2)
    with pytest.raises(StoreLost, match="busy with a script"):
        await store.admit(spend(1))
    own_server.command("SCRIPT", "KILL")
    own_server.wait_for(lambda: own_server.command("PING") == b"+PONG\r\n", "end of the script")
    assert (await store.admit(spend(2))).funds == [FundState(0, 1)]


async def test_a_mistake_of_ours_is_no_loss(store: RedisStore) -> None:
    await store.put_fields("h", {"f": b"1"}, 60)
    for _ in range(5):
        with pytest.raises(StoreLost, match="WRONGTYPE"):
            await store.get("h")
    assert store.lost is None


async def test_an_evicting_server_is_warned_of() -> None:
    with redis_server("--maxmemory-policy", "allkeys-lru") as server:
        async with opened(server.url, answer_s=0.1) as store:
            assert len(store.warnings) == 1
            assert "noeviction" in store.warnings[0]


async def test_nothing_but_the_epoch_stays_for_ever(store: RedisStore, own_server: RedisServer) -> None:
    names = TenantKeys(T, "a")
    now_s = int(time.time())
    month = Fund("m", 10**6, now_s - 10, now_s + 1000)
    full = Ask(T, 1, [RateClaim("rpm", 60, 60)], [SlotClaim("s", 5)], [FundClaim(month, 9)])
    assert (await store.admit(full)).decision == "admitted"
    await store.fleet()
    lives = {key: ttl_s(own_server, key) for key in _keys(own_server)}
    forever = {key for key, life in lives.items() if life == -1}
    assert forever == {names.boot}
    assert 60 <= lives[names.rate + "rpm"] <= 66
    assert 40 * 86_400 <= lives[names.fund(month)] <= 40 * 86_400 + 1000


def _keys(server: RedisServer) -> list[str]:
    return [line for line in server.command("KEYS", "*").decode().split("\r\n") if line.startswith("lg1:")]


async def test_messages_are_heard_again_after_a_restart(store: RedisStore, own_server: RedisServer) -> None:
    heard: list[bytes] = []
    store.listen(lambda topic, message: heard.append(message) if topic == "t" else None)
    await store.listening()
    own_server.kill()
    own_server.restart()
    async with asyncio.timeout(10):
        while not heard:
            try:
                await store.publish("t", b"again")
            except StoreLost:
                pass
            await asyncio.sleep(0.05)
    assert heard[0] == b"again"


async def test_a_closed_store_says_so(own_server: RedisServer) -> None:
    async with opened(own_server.url) as store:
        pass
    with pytest.raises(StoreLost, match="closed"):
        await store.admit(spend(1))
