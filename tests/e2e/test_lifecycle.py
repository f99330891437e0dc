"""How a process starts and ends: what runs is finished or told, and the ledger is whole."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from signal import SIGINT, SIGTERM
from typing import Any

import orjson
import pytest
import pytest_asyncio

from tests.e2e.rig import CHAT, chat
from tests.e2e.served import SOON_S, Served, came, command, served
from tests.fakes import answers
from tests.fakes.answers import chat_body, chat_stream, json_answer, open_stream
from tests.fakes.client import RawClient, request
from tests.fakes.upstream import Step, Upstream, hang, send, wait_for

pytestmark = pytest.mark.asyncio(loop_scope="module")

LONG_S = 60.0
STREAMS = 20
BEGUN = chat_stream(["one ", "two "])[:3]
REST = answers.chunked(chat_stream(["one ", "two "])[3:])


@pytest_asyncio.fixture(loop_scope="module")
async def upstream() -> AsyncIterator[Upstream]:
    async with Upstream() as running:
        yield running


@pytest.fixture(autouse=True)
def settled() -> None:
    """Each test here looks after a process of its own."""


def held(go_on: asyncio.Event) -> tuple[Step, ...]:
    """A stream that stops in the middle until it may go on."""
    return open_stream(*BEGUN), wait_for(go_on), send(REST)


async def refused(gateway: Served) -> bool:
    try:
        async with gateway.client():
            return False
    except ConnectionRefusedError:
        return True


async def not_listening(gateway: Served) -> None:
    async with asyncio.timeout(SOON_S):
        while not await refused(gateway):
            await asyncio.sleep(0.02)


async def first_events(client: RawClient) -> None:
    assert (await client.read_head()).status == 200
    for _ in BEGUN:
        assert await client.read_event()


async def rest_of(client: RawClient) -> list[bytes]:
    events = []
    while (event := await client.read_event()) is not None:
        events.append(event)
    return events


async def test_sigterm_lets_streams_finish(tmp_path: Path, upstream: Upstream) -> None:
    """Not ready at once, alive and listening for ``pre_stop_s``; then no new connections, and the
    streams come to their ends."""
    go_on = asyncio.Event()
    async with (
        AsyncExitStack() as stack,
        served(tmp_path, upstream, server={"pre_stop_s": 1.0, "drain_s": 20}) as gateway,
    ):
        clients = [await stack.enter_async_context(gateway.client()) for _ in range(STREAMS)]
        for number, client in enumerate(clients):
            upstream.next(*held(go_on))
            await gateway.begin(client, f"held-{number}", stream=True)
        await asyncio.gather(*map(first_events, clients))
        assert (await gateway.readyz())[0] == 200
        gateway.signal(SIGTERM)
        await gateway.draining()
        status, state = await gateway.readyz()
        assert (status, state["ready"], state["reasons"]) == (503, False, ["draining"])
        assert (await gateway.ask("/healthz")).status == 200
        upstream.next(send(json_answer(chat_body("late"))))
        assert (await gateway.chat()).status == 200  # whoever has not noticed yet is served
        await not_listening(gateway)
        go_on.set()
        for events in await asyncio.gather(*map(rest_of, clients)):
            assert events[-1] == b"[DONE]"
        assert await gateway.ended() == 0
        gateway.assert_whole()
        assert [row["outcome"] for row in gateway.rows()] == ["ok"] * (STREAMS + 1)


async def test_a_stream_that_outlives_the_drain_is_told(tmp_path: Path, upstream: Upstream) -> None:
    upstream.next(open_stream(*BEGUN), hang())
    async with served(tmp_path, upstream, server={"drain_s": 0.3}) as gateway:
        async with gateway.client() as client:
            await gateway.begin(client, "cut", stream=True)
            await first_events(client)
            gateway.signal(SIGTERM)
            events = await rest_of(client)
        error = orjson.loads(events[-1])["error"]
        assert (error["code"], error["request_id"], len(events)) == ("draining", "cut", 1)
        assert error["message"]
        assert await gateway.ended() == 0
        gateway.assert_whole()
        row = await gateway.row("cut")
        assert (row["outcome"], row["error_code"]) == ("partial", "draining")
        assert row["usage"]["output_tokens"] > 0 and row["charged_usd"] == row["cost_usd"]
        await upstream.last.left(1.0)


@pytest.mark.parametrize("stream", [True, False])
async def test_what_has_no_answer_at_the_end_of_the_drain_gets_an_error(
    tmp_path: Path, upstream: Upstream, stream: bool
) -> None:
    upstream.next(hang())
    slow = {"first_event_s": 30, "idle_s": 30, "total_s": 60}
    changes: dict[str, Any] = {"server": {"drain_s": 0.2}, "models": {"chat": {"timeouts": slow}}}
    async with served(tmp_path, upstream, **changes) as gateway, gateway.client() as client:
        await gateway.begin(client, "waiting", stream=stream)
        await came(upstream, 1)
        gateway.signal(SIGTERM)
        answer = await client.read()
        assert (answer.status, answer.code) == (503, "draining")
        assert int(answer.header("retry-after") or 0) >= 1
        assert await gateway.ended() == 0
        gateway.assert_whole()
        row = await gateway.row("waiting")
        assert (row["outcome"], row["error_code"]) == ("error", "draining")


@pytest.mark.parametrize("first, second", [(SIGTERM, SIGTERM), (SIGINT, SIGINT), (SIGTERM, SIGINT)])
async def test_a_second_signal_ends_the_drain(
    tmp_path: Path, upstream: Upstream, first: signal.Signals, second: signal.Signals
) -> None:
    upstream.next(open_stream(*BEGUN), hang())
    patient = {"models": {"chat": {"timeouts": {"idle_s": LONG_S, "total_s": LONG_S}}}}
    changes = {"server": {"drain_s": LONG_S}, **patient}
    async with served(tmp_path, upstream, **changes) as gateway, gateway.client() as client:
        await gateway.begin(client, "cut", stream=True)
        await first_events(client)
        gateway.signal(first)
        await not_listening(gateway)
        gateway.signal(second)
        assert orjson.loads((await rest_of(client))[-1])["error"]["code"] == "draining"
        assert await gateway.ended() == 0
        gateway.assert_whole()


async def test_a_second_signal_ends_the_wait_before_the_drain(tmp_path: Path, upstream: Upstream) -> None:
    async with served(tmp_path, upstream, server={"pre_stop_s": LONG_S}) as gateway:
        gateway.signal(SIGTERM)
        await gateway.draining()
        gateway.signal(SIGTERM)
        assert await gateway.ended() == 0


async def test_sigint_drains_too(tmp_path: Path, upstream: Upstream) -> None:
    go_on = asyncio.Event()
    upstream.next(*held(go_on))
    async with served(tmp_path, upstream, server={"drain_s": 20}) as gateway, gateway.client() as client:
        await gateway.begin(client, "held", stream=True)
        await first_events(client)
        gateway.signal(SIGINT)
        await not_listening(gateway)
        go_on.set()
        assert (await rest_of(client))[-1] == b"[DONE]"
        assert await gateway.ended() == 0
        gateway.assert_whole()


async def test_idle_connections_do_not_delay_the_end(tmp_path: Path, upstream: Upstream) -> None:
    """Kept alive after an answer, never used, or with half a head."""
    async with (
        AsyncExitStack() as stack,
        served(tmp_path, upstream, server={"drain_s": LONG_S}) as gateway,
    ):
        clients = [await stack.enter_async_context(gateway.client()) for _ in range(9)]
        for client in clients[:3]:
            upstream.next(send(json_answer(chat_body("kept"))))
            await client.send(request(CHAT, chat(), key=gateway.key))
            assert (await client.read()).status == 200
        for client in clients[3:6]:
            await client.send(b"POST /v1/chat/completions HTTP/1.1\r\nhost: g")
        gateway.signal(SIGTERM)
        assert await gateway.ended() == 0
        for client in clients:
            assert await client.closed(1.0)
        gateway.assert_whole()


async def test_a_buffered_request_is_finished(tmp_path: Path, upstream: Upstream) -> None:
    go_on = asyncio.Event()
    upstream.next(wait_for(go_on), send(json_answer(chat_body("done"))))
    async with served(tmp_path, upstream, server={"drain_s": 20}) as gateway, gateway.client() as client:
        await gateway.begin(client, "buffered")
        await came(upstream, 1)
        gateway.signal(SIGTERM)
        await not_listening(gateway)
        go_on.set()
        answer = await client.read()
        assert (answer.status, answer.header("connection")) == (200, "close")
        assert answer.json()["choices"][0]["message"]["content"] == "done"
        assert await gateway.ended() == 0
        gateway.assert_whole()


async def test_a_request_whose_body_is_still_coming_is_finished(tmp_path: Path, upstream: Upstream) -> None:
    upstream.next(send(json_answer(chat_body("done"))))
    async with served(tmp_path, upstream, server={"drain_s": 20}) as gateway, gateway.client() as client:
        raw = request(CHAT, chat(), key=gateway.key)
        await client.send(raw[:-30])
        await asyncio.sleep(0.1)
        gateway.signal(SIGTERM)
        await not_listening(gateway)
        await client.send(raw[-30:])
        answer = await client.read()
        assert (answer.status, answer.header("connection")) == (200, "close")
        assert await gateway.ended() == 0
        gateway.assert_whole()


async def test_a_body_that_does_not_come_is_told(tmp_path: Path, upstream: Upstream) -> None:
    async with served(tmp_path, upstream, server={"drain_s": 0.2}) as gateway, gateway.client() as client:
        await client.send(request(CHAT, chat(), key=gateway.key)[:-30])
        await asyncio.sleep(0.1)
        gateway.signal(SIGTERM)
        answer = await client.read()
        assert (answer.status, answer.code) == (503, "draining")
        await client.close()
        assert await gateway.ended() == 0
        gateway.assert_whole()


async def test_who_was_refused_and_keeps_the_connection_is_let_go(
    tmp_path: Path, upstream: Upstream
) -> None:
    """An answer before the body's end, to a client that neither sends the rest nor closes."""
    async with served(tmp_path, upstream) as gateway:
        async with gateway.client() as client:
            await client.send(request(CHAT, chat(), key="sk-gw-nobody-has-this-one")[:-30])
            assert (await client.read()).status == 401
            files = Path(f"/proc/{gateway.pid}/fd")
            held = len(list(files.iterdir()))
            async with asyncio.timeout(2 * SOON_S):
                while len(list(files.iterdir())) >= held:
                    await asyncio.sleep(0.1)
        assert await gateway.stop() == 0


def failing(gateway: Served) -> str:
    """What a gateway that cannot start says; it says it in readable lines, and exits with 1."""
    done = command("serve", "--config", str(gateway.config))
    assert done.returncode == 1
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    return done.stderr


async def test_the_port_is_taken(tmp_path: Path, upstream: Upstream) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        gateway = Served(tmp_path, upstream, {"server": {"port": port}})
        said = await asyncio.to_thread(failing, gateway)
    assert (
        said
        == f"error: cannot listen on 127.0.0.1:{port}: Address already in use; choose another with --port\n"
    )


async def test_two_that_start_in_the_same_moment(tmp_path: Path, upstream: Upstream) -> None:
    """At one port: one serves, the other says why not."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    gateways = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        gateways.append(Served(tmp_path / name, upstream, {"server": {"port": port}}))
        gateways[-1].arguments = []
    try:
        starts = await asyncio.gather(*(one.start() for one in gateways), return_exceptions=True)
        assert starts.count(None) == 1
        failed = gateways[0 if starts[0] is not None else 1]
        expected = f"error: cannot listen on 127.0.0.1:{port}: Address already in use"
        assert failed.stderr.read_text() == f"{expected}; choose another with --port\n"
    finally:
        for gateway in gateways:
            gateway.kill()


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid", "a..b", "::1::"])
async def test_the_host_is_not_ours(tmp_path: Path, upstream: Upstream, host: str) -> None:
    gateway = Served(tmp_path, upstream, {"server": {"host": host, "port": 0}})
    said = await asyncio.to_thread(failing, gateway)
    assert said.startswith(f"error: cannot listen on {host}:0: ")
    assert said.count("\n") == 1


def below_a_file(folder: Path) -> Path:
    (folder / "file").write_text("")
    return folder / "file" / "data"


def a_file(folder: Path) -> Path:
    return below_a_file(folder).parent


def ledger_is_a_file(folder: Path) -> Path:
    (folder / "kept").mkdir()
    (folder / "kept" / "ledger").write_text("")
    return folder / "kept"


@pytest.mark.parametrize("make", [below_a_file, a_file, ledger_is_a_file])
async def test_the_ledger_cannot_be_kept(
    tmp_path: Path, upstream: Upstream, make: Callable[[Path], Path]
) -> None:
    path = make(tmp_path)
    changes = {"server": {"port": 0}, "storage": {"data_dir": str(path)}}
    said = await asyncio.to_thread(failing, Served(tmp_path, upstream, changes))
    assert said.startswith(f"error: cannot keep the ledger in {path}: ")
    assert said.count("\n") == 1


async def test_a_faulty_configuration(tmp_path: Path, upstream: Upstream) -> None:
    gateway = Served(tmp_path, upstream, {"server": {"port": "many", "hots": "x"}})
    lines = (await asyncio.to_thread(failing, gateway)).splitlines()
    assert len(lines) == 2
    for line in lines:
        assert line.startswith(f"{gateway.config}:"), line


async def test_no_configuration(tmp_path: Path, upstream: Upstream) -> None:
    gateway = Served(tmp_path, upstream, {})
    gateway.config.unlink()
    said = await asyncio.to_thread(failing, gateway)
    assert said == f"{gateway.config}:1: cannot be read: No such file or directory\n"


async def test_a_second_process_with_the_same_data(tmp_path: Path, upstream: Upstream) -> None:
    """Each would count limits and budgets for itself; when the first one has ended, the other may begin."""
    (tmp_path / "second").mkdir()
    async with served(tmp_path, upstream) as first:
        changes = {"storage": {"data_dir": str(first.data_dir)}}
        second = Served(tmp_path / "second", upstream, changes)
        said = await asyncio.to_thread(failing, second)
        assert said.startswith(f"error: another gateway still runs with {first.data_dir}: ")
        assert await first.stop() == 0
        await second.start()
        assert await second.stop() == 0


async def test_killed_and_started_again(tmp_path: Path, upstream: Upstream) -> None:
    """Rows of what was answered are there; the new process goes on with the same chain."""
    async with served(tmp_path, upstream) as gateway, gateway.client() as client:
        for number in range(5):
            upstream.next(send(json_answer(chat_body("x"))))
            await gateway.chat(headers={"x-request-id": f"before-{number}"})
        await gateway.row("before-4")
        upstream.next(open_stream(*BEGUN), hang())
        await gateway.begin(client, "killed", stream=True)
        await first_events(client)
        async with asyncio.timeout(5):
            while len(gateway.rows("attempt")) < 6:
                await asyncio.sleep(0.005)
        gateway.kill()
        assert await client.closed(1.0)
        gateway.assert_proved()
        await gateway.start()
        for number in range(5):
            upstream.next(send(json_answer(chat_body("x"))))
            await gateway.chat(headers={"x-request-id": f"after-{number}"})
        assert await gateway.stop() == 0
        gateway.assert_proved()
        before, after = ([f"{when}-{number}" for number in range(5)] for when in ("before", "after"))
        assert [row["request_id"] for row in gateway.rows()] == [*before, "killed", *after]
        assert len(list(gateway.data_dir.glob("ledger/*/"))) == 1


async def test_a_torn_row_is_moved_aside(tmp_path: Path, upstream: Upstream) -> None:
    """Killed in the middle of a write: half of a row is not part of the chain."""
    async with served(tmp_path, upstream) as gateway:
        upstream.next(send(json_answer(chat_body("x"))))
        await gateway.chat(headers={"x-request-id": "whole"})
        await gateway.row("whole")
        gateway.kill()
        [day] = gateway.data_dir.glob("ledger/*/????-??-??.jsonl")
        with day.open("ab") as file:
            file.write(b'{"seq":2,"prev":"12')
        await gateway.start()
        upstream.next(send(json_answer(chat_body("x"))))
        await gateway.chat(headers={"x-request-id": "next"})
        assert await gateway.stop() == 0
        gateway.assert_proved()
        assert [row["request_id"] for row in gateway.rows()] == ["whole", "next"]
        assert gateway.log("ledger_torn")
