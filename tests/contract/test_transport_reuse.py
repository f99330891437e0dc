"""Kept connections: one whose reader has finished early, and one that its peer has given up."""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path

import pytest

from gateway.errors import Sent, UpstreamError
from gateway.providers.transport import Call, StaleConnection, Target, failures, httpx_call, lingering
from tests.contract.rawserver import Peer, RawServer, Script, answer, chunked, gzipped, head, replying
from tests.contract.transport_rig import Rig, every_engine, native_only, tls_server, until

LAST = b"data: [DONE]\n\n"
START = head("transfer-encoding: chunked") + chunked([b"data: 1\n\n", LAST], end=b"")


class Given(Exception):
    """What a caller's timer may give to ``abort``."""


async def read_to_last(rig: Rig, target: Target, last: bytes = LAST) -> Call:
    """A call of which everything up to the last event has been read, but not the body's end."""
    call = rig.transport.call(target, b"{}")
    await call.open(2.0)
    got = b""
    while not got.endswith(last):
        piece = await call.read()
        assert piece
        got += piece
    return call


def ending(*pieces: bytes, start: bytes = START) -> Script:
    """Answers all requests; sends ``pieces`` each in its own segment, 5 ms after what came before."""

    async def script(peer: Peer) -> None:
        while await peer.request():
            await peer.send(start)
            for piece in pieces:
                await asyncio.sleep(0.005)
                await peer.send(piece)

    return script


async def settled(server: RawServer, sent: int) -> None:
    """Until the server has sent so much on its last connection, and the other side has seen it."""
    await until(lambda: server.peers[-1].sent >= sent)
    await asyncio.sleep(0.01)


# -- finish


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What must end at once does not end by the time limit."""
    for module in (lingering, httpx_call):
        monkeypatch.setattr(module, "LINGER_S", 30.0)


@pytest.mark.parametrize(
    "end",
    [
        (b"0\r\n\r\n",),
        (b"0", b"\r", b"\n\r", b"\n"),
        (b"0\r\nx-trailer: t\r\n", b"\r\n"),
    ],
)
@every_engine
async def test_a_finished_call_waits_for_the_end_of_its_body(rig: Rig, end: tuple[bytes, ...]) -> None:
    server = await rig.serve(ending(*end))
    target = rig.target(server.port)
    whole = len(START) + len(b"".join(end))
    for count in range(1, 6):
        (await read_to_last(rig, target)).finish()
        await settled(server, whole * count)
    assert server.connections == 1


@every_engine
async def test_a_finished_call_over_tls(rig: Rig, tmp_path: Path) -> None:
    context, ca_file = tls_server(tmp_path)
    server = await rig.serve(ending(b"0\r\n\r\n"), tls=context)
    target = rig.target(server.port, scheme="https", host="localhost", ca_file=ca_file)
    for count in range(1, 4):
        (await read_to_last(rig, target)).finish()
        await settled(server, (len(START) + 5) * count)
    assert server.connections == 1


@every_engine
async def test_a_finished_call_of_an_inflated_body(rig: Rig) -> None:
    coded = head("transfer-encoding: chunked", "content-encoding: gzip") + chunked([gzipped(LAST)], end=b"")
    server = await rig.serve(ending(b"0\r\n\r\n", start=coded))
    target = rig.target(server.port)
    for count in range(1, 4):
        (await read_to_last(rig, target)).finish()
        await settled(server, (len(coded) + 5) * count)
    assert server.connections == 1


@every_engine
async def test_the_next_in_line_gets_the_connection_of_a_finished_call(rig: Rig) -> None:
    server = await rig.serve(ending(b"0\r\n\r\n"))
    target = rig.target(server.port, max_connections=1)
    for _ in range(5):
        (await read_to_last(rig, target)).finish()
    assert server.connections == 1


@every_engine
async def test_a_finished_call_waits_no_longer_than_its_time(rig: Rig) -> None:
    server = await rig.serve(ending())
    target = rig.target(server.port, max_connections=1)
    call = await read_to_last(rig, target)
    start = time.monotonic()
    call.finish()
    await until(lambda: server.open_connections == 0)
    assert time.monotonic() - start > 0.03
    (await read_to_last(rig, target)).close()
    assert server.connections == 2


@pytest.mark.parametrize(
    "more", [b"6\r\n: more\r\n", b"6\r\n: more\r\n0\r\n\r\n", b"0\r\n\r\nx", b"nonsense"]
)
@every_engine
async def test_more_than_the_end_drops_the_connection(rig: Rig, more: bytes, patient: None) -> None:
    server = await rig.serve(ending(more, b"0\r\n\r\n"))
    target = rig.target(server.port)
    for count in (1, 2):
        (await read_to_last(rig, target)).finish()
        await until(lambda: server.open_connections == 0)
        assert server.connections == count


@every_engine
async def test_an_answer_behind_the_end_is_nobodys(rig: Rig, patient: None) -> None:
    server = await rig.serve(ending(b"0\r\n\r\n" + answer(b"stolen")))
    target = rig.target(server.port)
    for count in (1, 2, 3):
        (await read_to_last(rig, target)).finish()
        await until(lambda: server.open_connections == 0)
        assert server.connections == count


@every_engine
async def test_finish_with_unread_bytes_drops_the_connection_at_once(rig: Rig, patient: None) -> None:
    server = await rig.serve(ending())
    call = rig.transport.call(rig.target(server.port), b"")
    await call.open(1.0)
    await asyncio.sleep(0.05)
    call.finish()
    await until(lambda: server.open_connections == 0)
    with pytest.raises(UpstreamError):
        await call.read()


@pytest.mark.parametrize(
    "start",
    [
        head() + LAST,
        head("transfer-encoding: chunked", "connection: close") + chunked([LAST], end=b""),
        head("content-length: 100") + LAST,
    ],
)
@every_engine
async def test_what_cannot_be_kept_is_dropped(rig: Rig, start: bytes, patient: None) -> None:
    server = await rig.serve(ending(start=start))
    (await read_to_last(rig, rig.target(server.port))).finish()
    await until(lambda: server.open_connections == 0)


@every_engine
async def test_a_finished_call_is_over(rig: Rig) -> None:
    server = await rig.serve(ending(b"0\r\n\r\n"))
    target = rig.target(server.port)
    call = await read_to_last(rig, target)
    call.finish()
    call.finish()
    call.abort(Given())
    call.close()
    with pytest.raises(UpstreamError) as caught:
        await call.read()
    assert not caught.value.blames_deployment
    await settled(server, len(START) + 5)
    (await read_to_last(rig, target)).close()
    assert server.connections == 1


@every_engine
async def test_finish_after_the_end_keeps_the_connection(rig: Rig) -> None:
    server = await rig.serve(replying(answer(b"whole")))
    target = rig.target(server.port)
    for _ in range(3):
        call = rig.transport.call(target, b"")
        await call.open(1.0)
        assert await call.read_all(10) == b"whole"
        call.finish()
        assert await call.read() == b""
    assert server.connections == 1


@every_engine
async def test_finish_before_the_head_ends_the_call(rig: Rig) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        assert await peer.gone(5.0)

    server = await rig.serve(script)
    target = rig.target(server.port)
    early, late = rig.transport.call(target, b""), rig.transport.call(target, b"")
    early.finish()
    asyncio.get_running_loop().call_later(0.05, late.finish)
    for call in (early, late):
        with pytest.raises(UpstreamError):
            await call.open(1.0)
    await until(lambda: server.open_connections == 0)


@every_engine
async def test_finish_from_a_callback_wakes_the_reader(rig: Rig) -> None:
    server = await rig.serve(ending())
    call = await read_to_last(rig, rig.target(server.port))
    asyncio.get_running_loop().call_later(0.02, call.finish)
    with pytest.raises(UpstreamError):
        await call.read()


@every_engine
async def test_aclose_ends_finished_calls_too(rig: Rig, patient: None) -> None:
    server = await rig.serve(ending())
    for _ in range(3):
        (await read_to_last(rig, rig.target(server.port))).finish()
    await rig.transport.aclose()
    await until(lambda: server.open_connections == 0)


@every_engine
async def test_every_answer_is_its_own_however_calls_end(rig: Rig) -> None:
    chance = random.Random(7)

    async def script(peer: Peer) -> None:
        while request := await peer.request():
            await peer.send(head("transfer-encoding: chunked") + chunked([request.body], end=b""))
            await asyncio.sleep(chance.choice([0.0, 0.002, 0.01, 0.045, 0.05, 0.055, 0.1]))
            await peer.send(b"0\r\n\r\n")

    server = await rig.serve(script)
    target = rig.target(server.port, max_connections=6)

    async def trial(number: int) -> None:
        body = b"<%d>" % number
        call = rig.transport.call(target, body)
        await call.open(2.0, 5.0)
        assert await call.read() == body
        chance.choice([call.finish, call.finish, call.finish, call.close, call.abort])()

    for start in range(0, 120, 12):
        await asyncio.gather(*(trial(start + n) for n in range(12)))
    assert 6 < server.connections < 120
    await until(lambda: server.open_connections <= 6)


# -- stale connections


def giving_up(*, reset: bool = False, block: bytes = b"", delay_s: float = 0.0) -> Script:
    """Answers the first request of each connection, and ends it on the second."""

    async def script(peer: Peer) -> None:
        request = await peer.request()
        assert request is not None
        await peer.send(answer(request.body))
        if await peer.request():
            await asyncio.sleep(delay_s)
            await peer.send(block)
            if reset:
                peer.reset()

    return script


@pytest.mark.parametrize("reset", [False, True])
@every_engine
async def test_a_stale_connection_is_replaced_by_a_fresh_one(rig: Rig, reset: bool) -> None:
    server = await rig.serve(giving_up(reset=reset))
    target = rig.target(server.port)
    assert await rig.ask(target, b"first") == b"first"
    assert await rig.ask(target, b"second") == b"second"
    assert [request.body for request in server.requests] == [b"first", b"second", b"second"]
    assert server.connections == 2


@every_engine
async def test_other_idle_connections_are_not_tried(rig: Rig) -> None:
    server = await rig.serve(giving_up())
    target = rig.target(server.port, max_connections=3)
    bodies = [b"a", b"b", b"c"]
    assert await asyncio.gather(*(rig.ask(target, body) for body in bodies)) == bodies
    warm = server.connections
    assert await rig.ask(target, b"d") == b"d"
    assert server.connections == warm + 1
    assert len(server.requests) == 5


@every_engine
async def test_a_fresh_connection_is_not_replaced(rig: Rig) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        if peer.number == 1:
            await peer.send(answer(b"first"))
            await peer.request()

    server = await rig.serve(script)
    target = rig.target(server.port)
    await rig.ask(target)
    error = await rig.fails(target)
    assert (type(error), error.sent) == (UpstreamError, Sent.AMBIGUOUS)
    assert (server.connections, len(server.requests)) == (2, 3)


@every_engine
async def test_a_peer_that_had_time_to_work_is_not_asked_again(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failures, "STALE_WITHIN_S", 0.05)
    server = await rig.serve(giving_up(delay_s=0.15))
    target = rig.target(server.port)
    await rig.ask(target)
    error = await rig.fails(target)
    assert (type(error), error.sent) == (UpstreamError, Sent.AMBIGUOUS)
    assert len(server.requests) == 2


@every_engine
async def test_a_peer_that_began_to_answer_is_not_asked_again(rig: Rig) -> None:
    server = await rig.serve(giving_up(block=head()[:9]))
    target = rig.target(server.port)
    await rig.ask(target)
    error = await rig.fails(target)
    assert error.sent is Sent.AMBIGUOUS
    assert not isinstance(error, StaleConnection)
    assert len(server.requests) == 2


@pytest.mark.parametrize("cancel", [False, True])
@every_engine
async def test_the_second_try_can_be_ended(rig: Rig, cancel: bool) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        if peer.number == 1:
            await peer.send(answer(b"first"))
            await peer.request()
        else:
            assert await peer.gone(5.0)

    server = await rig.serve(script)
    target = rig.target(server.port)
    await rig.ask(target)
    call = rig.transport.call(target, b"{}")
    opening = asyncio.get_running_loop().create_task(call.open(1.0))
    await until(lambda: len(server.requests) == 3)
    opening.cancel() if cancel else call.abort(Given())
    with pytest.raises(asyncio.CancelledError if cancel else Given):
        await opening
    await until(lambda: server.open_connections == 0)


@native_only
async def test_a_second_stale_connection_is_an_error(rig: Rig) -> None:
    """The place of the first goes to who waits in line; what comes back from there is stale too."""
    server = await rig.serve(giving_up())
    target = rig.target(server.port, max_connections=1)
    await rig.ask(target)
    async with asyncio.TaskGroup() as group:
        unlucky = group.create_task(rig.fails(target, b"unlucky"))
        await asyncio.sleep(0)
        lucky = group.create_task(rig.ask(target, b"lucky"))
    assert lucky.result() == b"lucky"
    assert isinstance(unlucky.result(), StaleConnection)
    assert unlucky.result().sent is Sent.AMBIGUOUS
    bodies = [request.body for request in server.requests]
    assert bodies == [b"{}", b"unlucky", b"lucky", b"unlucky"]


@every_engine
async def test_an_abort_at_the_moment_of_staleness_is_not_lost(rig: Rig) -> None:
    """Whatever comes first, the loss or the abort: the call never goes on."""
    for turns in range(12):
        lost = asyncio.Event()

        async def script(peer: Peer, lost: asyncio.Event = lost) -> None:
            await peer.request()
            await peer.send(answer(b"first"))
            if peer.number == 1 and await peer.request():
                peer.reset()
                lost.set()

        server = await rig.serve(script)
        target = rig.target(server.port)
        await rig.ask(target)
        call = rig.transport.call(target, b"{}")
        opening = asyncio.get_running_loop().create_task(call.open(1.0))
        await lost.wait()
        for _ in range(turns):
            await asyncio.sleep(0)
        call.abort(Given())
        try:
            await opening
        except Given:
            pass
        with pytest.raises(Given):
            await call.read()
