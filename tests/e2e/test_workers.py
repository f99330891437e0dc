"""Several workers on one address and one Redis: each serves, and any answers for all."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pytest
import pytest_asyncio

from gateway.admission.without_store import LEASE_SHARE
from gateway.edge.line import PUSH_S
from gateway.edge.together import SILENT_S
from gateway.edge.workers import ANSWER_S
from tests.e2e.operators import ADMIN, admin, new_key
from tests.e2e.rig import merged, samples
from tests.e2e.served import SOON_S, Served
from tests.fakes import answers
from tests.fakes.answers import chat_body, chat_stream, json_answer, open_stream
from tests.fakes.client import RawClient
from tests.fakes.upstream import Step, Upstream, send, wait_for
from tests.storage.redis_server import RedisServer, redis_server

pytestmark = pytest.mark.asyncio(loop_scope="module")

WORKERS = 2
RESTARTED_S = 15.0
SETTLED_S = 25.0
SLACK_S = 2.0
BEGUN = chat_stream(["one ", "two "])[:3]
REST = answers.chunked(chat_stream(["one ", "two "])[3:])


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def upstream() -> AsyncIterator[Upstream]:
    async with Upstream() as running:
        yield running


@pytest.fixture(scope="module")
def redis() -> Any:
    with redis_server() as running:
        yield running


@asynccontextmanager
async def workers(
    folder: Path, upstream: Upstream, redis: RedisServer, **changes: Any
) -> AsyncIterator[Served]:
    shared = {
        "server": {"workers": WORKERS, "pre_stop_s": 0.3, "drain_s": 20},
        "storage": {"url": redis.url},
        **BUDGET,
    }
    gateway = Served(folder, upstream, merged(merged(shared, ADMIN), changes))
    try:
        await gateway.start()
        yield gateway
    finally:
        gateway.kill()


PATIENT = {"models": {"chat": {"timeouts": {"idle_s": 30, "total_s": 60}}}}
BUDGET = {"tenants": {"acme": {"budget": {"usd": 100, "period": "month"}}}}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def gateway(
    tmp_path_factory: pytest.TempPathFactory, upstream: Upstream, redis: RedisServer
) -> AsyncIterator[Served]:
    async with workers(tmp_path_factory.mktemp("workers"), upstream, redis) as running:
        yield running
        assert await running.stop() == 0
        running.assert_proved()


@pytest.fixture(autouse=True)
def settled() -> None:
    """What must hold is said by each test here."""


def fine() -> Step:
    return send(json_answer(chat_body("fine")))


async def until(found: Callable[[], Any], within_s: float = SOON_S) -> Any:
    """What ``found``, sync or async, returns once it is true."""
    async with asyncio.timeout(within_s):
        while True:
            result = found()
            result = await result if asyncio.iscoroutine(result) else result
            if result:
                return result
            await asyncio.sleep(0.02)


async def pids(gateway: Served) -> list[int]:
    return [one["pid"] for one in (await gateway.readyz())[1]["workers"] if one["pid"]]


async def ready(gateway: Served) -> bool:
    return (await gateway.readyz())[0] == 200


async def total(gateway: Served, name: str) -> float:
    return sum(value for _, value in samples(await gateway.metrics()).get(name, []))


async def test_all_of_them_serve(gateway: Served, upstream: Upstream) -> None:
    """Connections that are open at the same time reach both; each writes a ledger of its own."""
    before = await total(gateway, "gateway_requests_total")
    done = 0

    def folders() -> set[str]:
        return {file.parent.name for file in gateway.data_dir.glob("ledger/*/*.jsonl")}

    async with asyncio.timeout(SOON_S):
        while len(folders()) < WORKERS:
            for _ in range(10):
                upstream.next(fine())
            found = await asyncio.gather(*(gateway.chat() for _ in range(10)))
            assert [answer.status for answer in found] == [200] * 10
            done += 10
    assert await total(gateway, "gateway_requests_total") == before + done
    assert await total(gateway, "gateway_overhead_seconds_count") >= done
    assert len(await until(lambda: rows(gateway, done))) == done
    assert gateway.stdout.read_text().count("listening on") == 1


def rows(gateway: Served, count: int) -> list[dict[str, Any]]:
    found = gateway.rows()
    return found if len(found) >= count else []


async def test_any_answers_for_all(gateway: Served) -> None:
    """Many connections, so that each worker is asked."""
    states = [await gateway.readyz() for _ in range(20)]
    for status, state in states:
        assert (status, state["ready"], state["reasons"]) == (200, True, [])
        assert [one["worker"] for one in state["workers"]] == [1, 2]
        assert len({one["pid"] for one in state["workers"]} - {gateway.pid, None}) == WORKERS
    counts = {await total(gateway, "gateway_requests_total") for _ in range(20)}
    assert len(counts) == 1
    for _ in range(5):
        (one,) = (await admin(gateway, "GET", "deployments")).json()["data"]
        assert (one["id"], one["breaker"], one["in_flight"]) == ("chat-1", "closed", 0)


async def test_what_runs_is_added_up(gateway: Served, upstream: Upstream) -> None:
    go_on = asyncio.Event()
    waiting = []
    for _ in range(6):
        upstream.next(wait_for(go_on), fine())
        waiting.append(asyncio.ensure_future(gateway.chat()))  # noqa: TID251
    await until(lambda: in_flight(gateway, 6))
    (one,) = (await admin(gateway, "GET", "deployments")).json()["data"]
    assert one["in_flight"] == 6
    assert await total(gateway, "gateway_reservations_open") == 6
    go_on.set()
    assert {answer.status for answer in await asyncio.gather(*waiting)} == {200}
    await until(lambda: in_flight(gateway, 0))


async def in_flight(gateway: Served, count: int) -> bool:
    return await total(gateway, "gateway_in_flight_requests") == count


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
async def test_promtool_finds_no_fault(gateway: Served) -> None:
    text = (await gateway.metrics()).encode()
    done = await asyncio.to_thread(
        subprocess.run, ["promtool", "check", "metrics"], input=text, capture_output=True, check=False
    )
    assert done.returncode == 0 and not done.stderr, done.stderr


async def test_a_key_made_at_one_works_at_the_others(gateway: Served) -> None:
    made = await new_key(gateway)

    async def status() -> int:
        return (await gateway.ask("/v1/models", key=made["secret"])).status

    await until(lambda: works(status))
    assert {await status() for _ in range(20)} == {200}


async def works(status: Callable[[], Any]) -> bool:
    found = [await status() for _ in range(10)]
    return set(found) == {200}


async def test_a_reload_reaches_all(gateway: Served) -> None:
    former = (await gateway.readyz())[1]["config"]["hash"]
    gateway.configure({"aliases": {"nick": "chat"}})
    gateway.signal(signal.SIGHUP)
    await gateway.reloaded("ok", WORKERS)
    state = (await gateway.readyz())[1]
    (new,) = {one["config"] for one in state["workers"]}
    assert new != former and len(await gateway.logged("config_reloaded", WORKERS)) == WORKERS
    for _ in range(10):
        listed = (await gateway.ask("/v1/models")).json()["data"]
        assert [one["id"] for one in listed] == ["chat", "nick"]
    good = gateway.config.read_text()
    gateway.write("zzz: 1\n")
    gateway.signal(signal.SIGHUP)
    await gateway.reloaded("rejected", WORKERS)
    assert (await gateway.readyz())[1]["config"]["rejected"]
    gateway.write(good)
    gateway.signal(signal.SIGHUP)
    await until(lambda: accepted(gateway))


async def accepted(gateway: Served) -> bool:
    return (await gateway.readyz())[1]["config"]["rejected"] is None


async def test_one_that_hangs_is_counted_as_it_was(gateway: Served) -> None:
    """The others accept and answer for it, soon; that it hangs is said in the end."""
    hanging = children(gateway)[0]
    counted = await until(lambda: steady(gateway))
    os.kill(hanging, signal.SIGSTOP)
    try:
        for _ in range(5):
            async with asyncio.timeout(ANSWER_S + SLACK_S):
                assert await total(gateway, "gateway_requests_total") == counted
        await until(lambda: reasons(gateway, "worker 1: has not answered for"), SILENT_S + SOON_S)
    finally:
        os.kill(hanging, signal.SIGCONT)
    await until(lambda: ready(gateway))


async def steady(gateway: Served) -> float:
    """What every worker has told."""
    await asyncio.sleep(1.2 * PUSH_S)
    return await total(gateway, "gateway_requests_total")


class Load:
    """Requests all the time, one after the other by each client, until ``end``."""

    def __init__(self, gateway: Served, upstream: Upstream, clients: int) -> None:
        self.fine = self.broken = 0
        self._gateway, self._upstream, self._running = gateway, upstream, True
        self._work = asyncio.gather(*(self._client() for _ in range(clients)))

    async def _client(self) -> None:
        while self._running:
            self._upstream.next(fine())
            try:
                answer = await self._gateway.chat()
            except (OSError, EOFError, AssertionError):
                self.broken += 1
            else:
                assert answer.status == 200, answer.body
                self.fine += 1

    async def go_on(self, count: int) -> None:
        wanted = self.fine + count
        await until(lambda: self.fine >= wanted, RESTARTED_S)

    async def end(self) -> None:
        self._running = False
        await self._work
        self._upstream.forget()


async def test_one_that_is_killed_is_replaced(gateway: Served, upstream: Upstream) -> None:
    """What runs on it fails, the others serve on; what it had counted stays, its folder is taken over, and
    what was spent in the end is what the ledgers say."""
    go_on, folders = asyncio.Event(), writers(gateway)
    async with AsyncExitStack() as stack:
        clients = await begin_streams(stack, gateway, upstream, *held(go_on))
        load = Load(gateway, upstream, 4)
        stack.push_async_callback(load.end)
        await load.go_on(40)
        await until(lambda: sum(map(len, streams(gateway).values())) == len(clients))  # on the disk
        killed, lost = busiest(gateway)
        counted = await total(gateway, "gateway_requests_total")
        os.kill(killed, signal.SIGKILL)
        await until(lambda: reasons(gateway, "is being started"))
        assert await total(gateway, "gateway_requests_total") >= counted
        await load.go_on(40)
        await until(lambda: ready(gateway), RESTARTED_S)
        await load.go_on(20)
        await load.end()
        go_on.set()
        ended = await asyncio.gather(*map(rest_of, clients), return_exceptions=True)
    whole = [events for events in ended if isinstance(events, list) and events[-1:] == [b"[DONE]"]]
    assert lost > 0 and len(whole) == len(clients) - lost, ended
    assert killed not in await pids(gateway) and len(await pids(gateway)) == WORKERS
    assert load.broken <= 4
    assert await total(gateway, "gateway_requests_total") > counted
    assert [line["exit"] for line in gateway.log("worker_ended")] == [-signal.SIGKILL]
    assert writers(gateway) == folders
    recovered = {row["request_id"] for row in gateway.rows() if row.get("recovered")}
    assert len([one for one in recovered if one.startswith("held-")]) == lost
    await until(lambda: agrees(gateway), SETTLED_S)


def busiest(gateway: Served) -> tuple[int, int]:
    """The worker with most of the streams, and how many these are."""
    begun = streams(gateway)
    writer = max(begun, key=lambda name: len(begun[name]))
    lock = gateway.data_dir / "ledger" / writer / "lock"
    for pid in children(gateway):
        if any(os.path.realpath(fd) == str(lock) for fd in Path(f"/proc/{pid}/fd").iterdir()):
            return pid, len(begun[writer])
    raise AssertionError(f"no worker writes {writer}")


def streams(gateway: Served) -> dict[str, set[str]]:
    """The ids of the streams that have begun, by the writer that has them."""
    begun: dict[str, set[str]] = {}
    for file in gateway.data_dir.glob("ledger/*/????-??-??.jsonl"):
        rows = [orjson.loads(line) for line in file.read_bytes().splitlines(keepends=True) if b"\n" in line]
        ids = {row["request_id"] for row in rows if row["kind"] == "attempt"}
        begun[file.parent.name] = {one for one in ids if one.startswith("held-")}
    return begun


def children(gateway: Served) -> list[int]:
    return [line["pid"] for line in gateway.log("worker_ready") if Path(f"/proc/{line['pid']}").exists()]


async def reasons(gateway: Served, wanted: str) -> bool:
    try:
        return any(wanted in reason for reason in (await gateway.readyz())[1]["reasons"])
    except (OSError, EOFError, AssertionError):  # it was the one that was killed
        return False


def writers(gateway: Served) -> set[str]:
    return {folder.name for folder in gateway.data_dir.glob("ledger/*/")}


async def agrees(gateway: Served) -> bool:
    """The budget, the spend of the fleet and the ledgers. Nothing is reserved any more but what each worker
    that lives has set aside for a time without the store."""
    charged = sum((Decimal(row["charged_usd"]) for row in gateway.rows()), Decimal(0))
    (listed,) = (await admin(gateway, "GET", "tenants")).json()["data"]
    spent = (await admin(gateway, "GET", "spend?tenant=acme")).json()
    (budget,) = listed["budgets"]
    aside = WORKERS * Decimal(budget["limit_usd"]) / LEASE_SHARE
    same = Decimal(budget["spent_usd"]) == Decimal(spent["total_usd"]) == charged
    return same and Decimal(budget["reserved_usd"]) <= aside


def held(go_on: asyncio.Event) -> tuple[Step, ...]:
    return open_stream(*BEGUN), wait_for(go_on), send(REST)


async def begin_streams(stack: Any, gateway: Served, upstream: Upstream, *steps: Step) -> list[RawClient]:
    """Several, so that more than one worker has some."""
    clients = [await stack.enter_async_context(gateway.client()) for _ in range(8)]
    for number, client in enumerate(clients):
        upstream.next(*steps)
        await gateway.begin(client, f"held-{number}", stream=True)
        assert (await client.read_head()).status == 200
        for _ in BEGUN:
            assert await client.read_event()
    return clients


async def rest_of(client: RawClient) -> list[bytes]:
    events = []
    while (event := await client.read_event()) is not None:
        events.append(event)
    return events


async def gone(found: list[int], within_s: float = SOON_S) -> None:
    await until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in found), within_s)


async def test_sigterm_lets_streams_finish(gateway: Served, upstream: Upstream) -> None:
    """The end of the gateway of the tests above."""
    go_on = asyncio.Event()
    async with AsyncExitStack() as stack:
        clients = await begin_streams(stack, gateway, upstream, *held(go_on))
        found = children(gateway)
        gateway.signal(signal.SIGTERM)
        await gateway.logged("draining", WORKERS)
        status, state = await gateway.readyz()
        assert (status, state["reasons"]) == (503, ["worker 1: draining", "worker 2: draining"])
        await until(lambda: refused(gateway))
        go_on.set()
        for events in await asyncio.gather(*map(rest_of, clients)):
            assert events[-1] == b"[DONE]"
    assert await gateway.ended() == 0
    await gone(found)
    assert [line["rows_lost"] for line in gateway.log("stopped")] == [0] * WORKERS
    assert not [line for line in gateway.log() if "traceback" in line]


async def refused(gateway: Served) -> bool:
    try:
        async with gateway.client():
            return False
    except ConnectionRefusedError:
        return True


async def test_a_signal_to_everybody_is_one_and_a_second_ends_the_drain(
    tmp_path: Path, upstream: Upstream, redis: RedisServer
) -> None:
    """Some process managers tell each process what one has told the others already."""
    go_on, never = asyncio.Event(), asyncio.Event()
    async with workers(tmp_path, upstream, redis) as gateway, AsyncExitStack() as stack:
        finishing = await begin_streams(stack, gateway, upstream, *held(go_on))
        cut = await begin_streams(stack, gateway, upstream, *held(never))
        for pid in (gateway.pid, *children(gateway)):
            os.kill(pid, signal.SIGINT)
        await until(lambda: refused(gateway))
        go_on.set()
        for client in finishing:
            assert (await rest_of(client))[-1] == b"[DONE]"
        gateway.signal(signal.SIGTERM)
        for client in cut:
            assert orjson.loads((await rest_of(client))[-1])["error"]["code"] == "draining"
        assert await gateway.ended() == 0
        gateway.assert_proved()


async def test_without_their_parent_they_drain(
    tmp_path: Path, upstream: Upstream, redis: RedisServer
) -> None:
    go_on = asyncio.Event()
    async with workers(tmp_path, upstream, redis) as gateway, AsyncExitStack() as stack:
        clients = await begin_streams(stack, gateway, upstream, *held(go_on))
        found = children(gateway)
        gateway.kill()
        await gateway.logged("draining", WORKERS)
        go_on.set()
        for events in await asyncio.gather(*map(rest_of, clients)):
            assert events[-1] == b"[DONE]"
        await gone(found)
        gateway.assert_proved()


async def test_one_that_cannot_start_does_not_harm_the_others(
    tmp_path: Path, upstream: Upstream, redis: RedisServer
) -> None:
    """The files say something else than when the others started: it is tried again until they do not.
    Where none serves any more and none can start, it is the end."""
    async with workers(tmp_path, upstream, redis) as gateway:
        good = gateway.config.read_text()
        gateway.configure({"storage": {"data_dir": str(tmp_path / "elsewhere")}})
        os.kill(children(gateway)[0], signal.SIGKILL)
        await until(lambda: refusals(gateway, "or restart the gateway"), RESTARTED_S)
        assert not (tmp_path / "elsewhere").exists()
        upstream.next(fine())
        assert (await gateway.chat()).status == 200
        assert (await gateway.readyz())[0] == 503
        gateway.write(good)
        await until(lambda: ready(gateway), RESTARTED_S)
        gateway.write("zzz: 1\n")
        for pid in children(gateway):
            os.kill(pid, signal.SIGKILL)
        assert await gateway.ended(30.0) == 1
        assert refusals(gateway, f"{gateway.config}:1: zzz: is not a known key")
        assert gateway.stderr.read_text().splitlines()[-1].startswith(f"error: {gateway.config}:1: zzz: ")


def refusals(gateway: Served, said: str) -> list[dict[str, Any]]:
    lines = gateway.stderr.read_bytes().splitlines(keepends=True)
    logged = [orjson.loads(line) for line in lines if line.startswith(b"{") and line.endswith(b"\n")]
    ended = [line for line in logged if line["event"] == "worker_ended"]
    return [line for line in ended if said in line.get("reason", "")]


async def test_what_keeps_them_from_starting_is_told_once(
    tmp_path: Path, upstream: Upstream, redis: RedisServer
) -> None:
    (tmp_path / "file").write_text("")
    changes = {"storage": {"data_dir": str(tmp_path / "file" / "data")}}
    with pytest.raises(AssertionError, match="did not start"):
        async with workers(tmp_path, upstream, redis, **changes):
            pass
    said = [line for line in (tmp_path / "stderr").read_text().splitlines() if line.startswith("error: ")]
    assert len(said) == 1 and "cannot keep the ledger in" in said[0]
