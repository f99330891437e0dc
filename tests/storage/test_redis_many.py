"""A cluster of three nodes, a failover that sentinels decide, and TLS."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from gateway.storage.interface import Ask, Fund, FundClaim, FundState, SlotClaim, StoreLost
from gateway.storage.keys import TenantKeys, record, slot_number
from gateway.storage.redis import RedisStore
from tests.contract.transport_rig import self_signed
from tests.storage.redis_server import RedisServer, free_port, redis_server
from tests.storage.worlds import opened

FUND = Fund("month", 10**6, 0, 0)
TENANTS = [f"tenant{number}" for number in range(12)]


def spend(tenant: str, number: int) -> Ask:
    return Ask(tenant, number, slots=[SlotClaim("s", 99)], funds=[FundClaim(FUND, 5)])


@pytest.fixture(scope="module")
def cluster() -> Iterator[list[RedisServer]]:
    with ExitStack() as stack:
        nodes = [
            stack.enter_context(
                redis_server("--cluster-enabled", "yes", "--cluster-config-file", f"nodes{n}.conf")
            )
            for n in range(3)
        ]
        share = 16384 // 3 + 1
        for n, node in enumerate(nodes):
            node.command("CLUSTER", "ADDSLOTSRANGE", n * share, min((n + 1) * share, 16384) - 1)
            node.command("CLUSTER", "SET-CONFIG-EPOCH", n + 1)
        for node in nodes[1:]:
            nodes[0].command("CLUSTER", "MEET", "127.0.0.1", node.port)
        for node in nodes:
            node.wait_for(lambda node=node: _is_whole(node), "cluster of three")  # type: ignore[misc]
        yield nodes


def _is_whole(node: RedisServer) -> bool:
    info = node.command("CLUSTER", "INFO")
    return b"cluster_state:ok" in info and b"cluster_known_nodes:3" in info


async def test_tenants_lie_on_all_nodes(cluster: list[RedisServer]) -> None:
    async with opened(f"redis+cluster://127.0.0.1:{cluster[0].port}", "a") as store:
        assert store.lost is None
        for tenant in TENANTS:
            await store.register(tenant, [], [], lost=False)
            assert (await store.admit(spend(tenant, 1))).funds == [FundState(0, 5)]
            assert await store.fund_states(tenant, [FUND]) == [FundState(0, 5)]
        await store.bump(TENANTS)
        assert (await store.renew(TENANTS[0])).epoch == 1
        for number in range(20):
            await store.put(f"k{number}", b"%d" % number, 60)
            assert await store.get(f"k{number}") == b"%d" % number
        assert await store.fleet() == 1
        assert all(node.command("DBSIZE") != b":0\r\n" for node in cluster)
        heard: list[bytes] = []
        store.listen(lambda _, message: heard.append(message))
        await store.listening()
        await store.publish("t", b"to all")
        async with asyncio.timeout(5):
            while not heard:
                await asyncio.sleep(0.01)


async def test_whoever_is_sent_elsewhere_goes_there(cluster: list[RedisServer]) -> None:
    """The store knows one node only, as if the map had changed since it was read."""
    store = RedisStore(f"redis+cluster://127.0.0.1:{cluster[1].port}", "b", answer_s=5.0)
    try:
        for tenant in TENANTS:
            await store.register(tenant, [], [], lost=False)
            assert (await store.admit(spend(tenant, 1))).decision == "admitted"
    finally:
        await store.aclose()


async def test_a_slot_that_is_just_moving(cluster: list[RedisServer]) -> None:
    slot = slot_number(record("moving"))
    source = cluster[slot // (16384 // 3 + 1)]
    target = next(node for node in cluster if node is not source)
    names = {node.port: node.command("CLUSTER", "MYID").split()[1].decode() for node in cluster}
    async with opened(f"redis+cluster://127.0.0.1:{cluster[0].port}", "c") as store:
        target.command("CLUSTER", "SETSLOT", slot, "IMPORTING", names[source.port])
        source.command("CLUSTER", "SETSLOT", slot, "MIGRATING", names[target.port])
        await store.put("moving", b"1", 60)
        for node in (target, source, *cluster):
            node.command("CLUSTER", "SETSLOT", slot, "NODE", names[target.port])
        assert await store.get("moving") == b"1"
        assert store.lost is None


async def test_one_dead_node_is_not_the_whole_store() -> None:
    """Its tenants fail at once; the others' go on."""
    with redis_server("--cluster-enabled", "yes") as one, redis_server("--cluster-enabled", "yes") as two:
        for node, first, last in ((one, 0, 8191), (two, 8192, 16383)):
            node.command("CLUSTER", "ADDSLOTSRANGE", first, last)
            node.command("CONFIG", "SET", "cluster-require-full-coverage", "no")
        one.command("CLUSTER", "MEET", "127.0.0.1", two.port)
        for node in (one, two):
            node.wait_for(lambda node=node: b"known_nodes:2" in node.command("CLUSTER", "INFO"), "meeting")  # type: ignore[misc]
            node.wait_for(lambda node=node: b"state:ok" in node.command("CLUSTER", "INFO"), "cluster")  # type: ignore[misc]
        async with opened(f"redis+cluster://127.0.0.1:{one.port},127.0.0.1:{two.port}", "a") as store:
            sides = {TenantKeys(tenant, "a").slot_number < 8192: tenant for tenant in TENANTS}
            for tenant in sides.values():
                await store.register(tenant, [], [], lost=False)
            two.kill()
            for _ in range(4):
                with pytest.raises(StoreLost):
                    await store.admit(spend(sides[False], 1))
            assert store.lost is not None
            assert (await store.admit(spend(sides[True], 1))).decision == "admitted"


SENTINEL = """
sentinel monitor main 127.0.0.1 {port} 1
sentinel down-after-milliseconds main 500
sentinel failover-timeout main 2000
"""


async def test_after_a_failover_the_new_master_is_found() -> None:
    with ExitStack() as stack:
        fast = ("--repl-diskless-sync", "no", "--repl-ping-replica-period", "1")
        master = stack.enter_context(redis_server(*fast))
        replica = stack.enter_context(redis_server(*fast, "--replicaof", "127.0.0.1", str(master.port)))
        replica.wait_for(lambda: b"link_status:up" in replica.command("INFO", "replication"), "sync")
        sentinel = stack.enter_context(redis_server("--sentinel", config=SENTINEL.format(port=master.port)))
        sentinel.wait_for(
            lambda: str(replica.port).encode() in sentinel.command("SENTINEL", "REPLICAS", "main"),
            "replica",
        )
        async with opened(f"redis+sentinel://127.0.0.1:{sentinel.port}/main", "a", 0.1) as store:
            assert store.lost is None
            await store.register("acme", [], [], lost=False)
            await store.admit(spend("acme", 1))
            master.command("WAIT", 1, 1000)
            master.kill()
            async with asyncio.timeout(15):
                while not await _admits(store):
                    await asyncio.sleep(0.05)
            assert await store.fund_states("acme", [FUND]) == [FundState(0, 10)]


async def _admits(store: RedisStore) -> bool:
    try:
        return (await store.admit(spend("acme", 2))).decision == "admitted"
    except StoreLost:
        return False


async def test_a_service_that_no_sentinel_knows() -> None:
    with (
        redis_server() as other,
        redis_server("--sentinel", config=SENTINEL.format(port=other.port)) as sentinel,
    ):
        async with opened(f"redis+sentinel://127.0.0.1:{sentinel.port}/elsewhere", "a") as store:
            assert store.lost is not None
            assert "elsewhere" in store.lost


async def test_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    certificate, key = self_signed(tmp_path)
    files = ("--tls-cert-file", str(certificate), "--tls-key-file", str(key))
    with redis_server("--tls-port", str(port), "--tls-auth-clients", "no", *files):
        async with opened(f"rediss://127.0.0.1:{port}/1") as store:
            assert store.lost is not None
            assert "certificate" in store.lost
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        async with opened(f"rediss://127.0.0.1:{port}/1") as store:
            assert store.lost is None
            await store.register("acme", [], [], lost=False)
            assert (await store.admit(spend("acme", 1))).funds == [FundState(0, 5)]
            await store.listening()
