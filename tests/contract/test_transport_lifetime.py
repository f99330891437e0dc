"""Connections: how many, how long, who gets the next, and that none outlives its call."""

from __future__ import annotations

import asyncio
import random
import time

import pytest

from gateway.errors import Sent, UpstreamError, UpstreamTimeout
from gateway.providers.transport import Call
from tests.contract.rawserver import Peer, answer, chunked, head, replying
from tests.contract.transport_rig import (
    Rig,
    black_hole,
    every_engine,
    native_only,
    until,
)


class Given(Exception):
    """What a caller's timer may give to ``abort``."""


async def echo(peer: Peer) -> None:
    """Answers with the request's body, in one of many manners, after a moment."""
    choice = random.Random(peer.number)
    while request := await peer.request():
        await asyncio.sleep(choice.random() * 0.004)
        if choice.random() < 0.5:
            await peer.send(answer(request.body))
        else:
            pieces = [piece for piece in (request.body[:5], request.body[5:]) if piece]
            await peer.send(head("transfer-encoding: chunked") + chunked(pieces), 16)


async def silence(peer: Peer) -> None:
    await peer.request()
    assert await peer.gone(5.0)


async def half(peer: Peer) -> None:
    await peer.request()
    await peer.send(head("transfer-encoding: chunked") + chunked([b"half"], end=b""))
    assert await peer.gone(5.0)


def later(delay_s: float, call: Call, error: Exception | None) -> None:
    asyncio.get_running_loop().call_later(delay_s, call.abort, error)


# -- abort and close


@every_engine
async def test_abort_while_waiting_for_the_head(rig: Rig) -> None:
    server = await rig.serve(silence)
    call = rig.transport.call(rig.target(server.port), b"")
    given = Given()
    later(0.1, call, given)
    with pytest.raises(Given) as caught:
        await call.open(1.0)
    assert caught.value is given
    await until(lambda: server.open_connections == 0)
    with pytest.raises(Given):
        await call.read()
    call.close()
    call.abort(None)


@every_engine
async def test_abort_while_reading(rig: Rig) -> None:
    server = await rig.serve(half)
    call = rig.transport.call(rig.target(server.port), b"")
    await call.open(1.0)
    assert await call.read() == b"half"
    later(0.05, call, Given())
    with pytest.raises(Given):
        await call.read()
    await until(lambda: server.open_connections == 0)


@every_engine
async def test_abort_throws_away_what_was_not_read(rig: Rig) -> None:
    server = await rig.serve(replying(answer(b"whole")))
    call = rig.transport.call(rig.target(server.port), b"")
    await call.open(1.0)
    await asyncio.sleep(0.05)
    call.abort(Given())
    with pytest.raises(Given):
        await call.read()


@every_engine
async def test_abort_before_open(rig: Rig) -> None:
    server = await rig.serve(echo)
    call = rig.transport.call(rig.target(server.port), b"")
    call.abort(Given())
    with pytest.raises(Given):
        await call.open(1.0)
    assert server.connections == 0


@every_engine
async def test_it_is_known_whether_anything_was_asked(rig: Rig) -> None:
    with black_hole() as port:
        call = rig.transport.call(rig.target(port), b"")
        later(0.2, call, Given())
        with pytest.raises((Given, UpstreamError)):
            await call.open(5.0)
        assert not call.asked
    server = await rig.serve(silence)
    call = rig.transport.call(rig.target(server.port), b"")
    assert not call.asked
    later(0.2, call, Given())
    with pytest.raises(Given):
        await call.open(5.0)
    assert call.asked


@every_engine
async def test_abort_while_connecting(rig: Rig) -> None:
    with black_hole() as port:
        call = rig.transport.call(rig.target(port), b"")
        later(0.1, call, Given())
        with pytest.raises(Given):
            await call.open(5.0)
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0


@every_engine
async def test_abort_while_shaking_hands(rig: Rig) -> None:
    async def script(peer: Peer) -> None:
        assert await peer.gone(5.0)

    server = await rig.serve(script)
    call = rig.transport.call(rig.target(server.port, scheme="https"), b"")
    later(0.2, call, Given())
    with pytest.raises(Given):
        await call.open(5.0)
    await until(lambda: server.open_connections == 0)


@every_engine
async def test_abort_in_the_queue_of_the_pool(rig: Rig) -> None:
    server = await rig.serve(silence)
    target = rig.target(server.port, max_connections=1)
    first, second = rig.transport.call(target, b""), rig.transport.call(target, b"")
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(_outcome(first))
        await until(lambda: len(server.requests) == 1)
        later(0.1, second, Given())
        with pytest.raises(Given):
            await second.open(1.0, 5.0)
        first.abort(Given())
        assert isinstance(await waiting, Given)
    assert server.connections == 1


async def _outcome(call: Call) -> BaseException | bytes:
    try:
        await call.open(2.0, 2.0)
        return await call.read_all(1 << 20)
    except (UpstreamError, Given) as error:
        return error
    finally:
        call.close()


@every_engine
async def test_close_before_the_end_drops_the_connection(rig: Rig) -> None:
    server = await rig.serve(half)
    call = rig.transport.call(rig.target(server.port), b"")
    await call.open(1.0)
    start = time.monotonic()
    call.close()
    call.close()
    await until(lambda: server.open_connections == 0)
    assert time.monotonic() - start < 1.0
    with pytest.raises(UpstreamError) as caught:
        await call.read()
    assert not caught.value.blames_deployment


@every_engine
async def test_close_with_unread_bytes_does_not_look_like_an_end(rig: Rig) -> None:
    server = await rig.serve(replying(answer(b"whole")))
    call = rig.transport.call(rig.target(server.port), b"")
    await call.open(1.0)
    await asyncio.sleep(0.05)
    call.close()
    with pytest.raises(UpstreamError):
        await call.read()


@every_engine
async def test_aclose_ends_calls_under_way(rig: Rig) -> None:
    server = await rig.serve(half)
    mute = await rig.serve(silence)
    reading = rig.transport.call(rig.target(server.port), b"")
    await reading.open(1.0)
    await reading.read()
    opening = asyncio.get_running_loop().create_task(
        _outcome(rig.transport.call(rig.target(mute.port), b""))
    )
    await until(lambda: len(mute.requests) == 1)
    await rig.transport.aclose()
    with pytest.raises(UpstreamError):
        await reading.read()
    assert isinstance(await opening, UpstreamError)
    late = rig.transport.call(rig.target(server.port), b"")
    with pytest.raises(UpstreamError):
        await late.open(1.0)
    await until(lambda: server.open_connections + mute.open_connections == 0)


# -- cancellation


@every_engine
async def test_a_cancelled_read_loses_no_bytes(rig: Rig) -> None:
    body = bytes(range(256)) * 40
    pieces = [body[at : at + 256] for at in range(0, len(body), 256)]

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(head("transfer-encoding: chunked"))
        for piece in pieces:
            await peer.send(chunked([piece], end=b""))
            await asyncio.sleep(0.002)
        await peer.send(b"0\r\n\r\n")

    server = await rig.serve(script)
    call = rig.transport.call(rig.target(server.port), b"")
    await call.open(1.0)
    got, cancelled = b"", 0
    while len(got) < len(body):
        try:
            async with asyncio.timeout(random.random() * 0.003):
                got += await call.read()
        except TimeoutError:
            cancelled += 1
    assert got == body
    assert cancelled > 5
    assert await call.read() == b""


async def _cancelled_after(rig: Rig, call: Call, turns: int, delay_s: float) -> bytes | None:
    """The answer, or None if it was cancelled before."""

    async def work() -> bytes:
        try:
            await call.open(2.0, 2.0)
            return await call.read_all(1 << 20)
        finally:
            call.close()

    task = asyncio.get_running_loop().create_task(work())
    for _ in range(turns):
        await asyncio.sleep(0)
    if delay_s:
        await asyncio.sleep(delay_s)
    task.cancel()
    try:
        return await task
    except asyncio.CancelledError:
        return None


@pytest.mark.parametrize("limit", [2, 50])
@every_engine
async def test_cancelled_anywhere_every_answer_is_its_own(rig: Rig, limit: int) -> None:
    chance = random.Random(limit)
    server = await rig.serve(echo)
    target = rig.target(server.port, max_connections=limit)
    outcomes = {None: 0, True: 0}

    async def trial(number: int) -> None:
        body = b"request %d;" % number * chance.randint(1, 4)
        turns, delay_s = chance.randint(0, 30), chance.choice([0.0, 0.0, chance.random() * 0.015])
        call = rig.transport.call(target, body)
        got = await _cancelled_after(rig, call, turns, delay_s)
        assert got in (None, body)
        outcomes[None if got is None else True] += 1

    total = 300 if rig.native else 200
    for start in range(0, total, 8):
        await asyncio.gather(*(trial(start + n) for n in range(8)))
    assert min(outcomes.values()) > total // 20, outcomes
    await until(lambda: server.open_connections <= limit)
    bodies = [b"after %d" % n for n in range(limit * 2)]
    assert await asyncio.gather(*(rig.ask(target, body) for body in bodies)) == bodies
    assert server.open_connections <= limit


@every_engine
async def test_cancelled_at_every_turn_of_connecting(rig: Rig) -> None:
    server = await rig.serve(echo)
    for turns in range(40):
        target = rig.target(server.port, max_connections=1, ca_file=f"pool {turns}")
        call = rig.transport.call(target, b"first")
        assert await _cancelled_after(rig, call, turns, 0.0) in (None, b"first")
        assert await rig.ask(target, b"second") == b"second"


# -- the pool


@every_engine
async def test_pool_exhausted_is_not_the_deployments_fault(rig: Rig) -> None:
    server = await rig.serve(half)
    target = rig.target(server.port, max_connections=1)
    holder = rig.transport.call(target, b"")
    await holder.open(1.0)
    call = rig.transport.call(target, b"")
    start = time.monotonic()
    with pytest.raises(UpstreamError) as caught:
        await call.open(1.0, 0.2)
    assert 0.15 < time.monotonic() - start < 1.0
    error = caught.value
    assert (error.sent, error.blames_deployment) == (Sent.NEVER, False)
    assert (error.status, error.code, error.retry_after_s) == (503, "overloaded", 1)
    assert not isinstance(error, UpstreamTimeout)
    holder.close()
    again = rig.transport.call(target, b"")
    await again.open(1.0, 1.0)
    again.close()


@pytest.mark.parametrize("closing", [False, True])
@every_engine
async def test_waiters_are_served_in_order(rig: Rig, closing: bool) -> None:
    async def script(peer: Peer) -> None:
        while request := await peer.request():
            await asyncio.sleep(0.002)
            await peer.send(answer(request.body, *["connection: close"] * closing))
            if closing:
                return

    server = await rig.serve(script)
    target = rig.target(server.port, max_connections=1)
    done: list[int] = []

    async def ask(number: int) -> None:
        assert await rig.ask(target, b"%d" % number) == b"%d" % number
        done.append(number)

    await asyncio.gather(*(ask(number) for number in range(20)))
    assert done == list(range(20))
    assert server.connections == (20 if closing else 1)


@native_only
async def test_the_limit_holds_and_is_used(rig: Rig) -> None:
    server = await rig.serve(echo)
    target = rig.target(server.port, max_connections=5)
    most = 0

    async def watch() -> None:
        nonlocal most
        while True:
            most = max(most, server.open_connections)
            await asyncio.sleep(0.001)

    watching = asyncio.get_running_loop().create_task(watch())
    await asyncio.gather(*(rig.ask(target, b"%d" % n) for n in range(100)))
    watching.cancel()
    assert most == 5


@native_only
async def test_a_failed_connect_gives_its_place_to_the_next(rig: Rig) -> None:
    with black_hole() as port:
        target = rig.target(port, max_connections=1)
        calls = [rig.transport.call(target, b"") for _ in range(3)]

        async def open_(call: Call) -> type[BaseException]:
            with pytest.raises(UpstreamTimeout) as caught:
                await call.open(0.1, 5.0)
            return caught.type

        start = time.monotonic()
        await asyncio.gather(*map(open_, calls))
        assert 0.25 < time.monotonic() - start < 1.5


@native_only
async def test_the_last_used_connection_is_used_next(rig: Rig) -> None:
    server = await rig.serve(echo)
    target = rig.target(server.port)
    await asyncio.gather(*(rig.ask(target, b"x") for _ in range(4)))
    assert server.connections == 4
    for _ in range(6):
        await rig.ask(target, b"y")
    assert sorted(len(peer.requests) for peer in server.peers) == [1, 1, 1, 7]


@every_engine
async def test_a_connection_closed_while_idle_is_noticed(rig: Rig) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer(b"x"))
        await asyncio.sleep(0.02)

    server = await rig.serve(script)
    target = rig.target(server.port)
    for _ in range(3):
        assert await rig.ask(target) == b"x"
        await asyncio.sleep(0.1)
    assert server.connections == 3
    if rig.native:
        assert server.open_connections == 0


@pytest.mark.parametrize("unasked", [b"HTTP/1.1 408 Timeout\r\n\r\n", b"x", answer(b"stolen")])
@every_engine
async def test_unasked_bytes_drop_an_idle_connection(rig: Rig, unasked: bytes) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer(b"mine"))
        await asyncio.sleep(0.02)
        await peer.send(unasked)
        await peer.gone(5.0)

    server = await rig.serve(script)
    target = rig.target(server.port)
    for count in (1, 2):
        assert await rig.ask(target) == b"mine"
        await asyncio.sleep(0.1)
        assert server.connections == count
        if rig.native:
            assert server.open_connections == 0


@pytest.mark.parametrize("extra", [b"x", answer(b"stolen"), b"\0"])
@every_engine
async def test_bytes_after_the_end_are_no_answer(rig: Rig, extra: bytes) -> None:
    server = await rig.serve(replying(answer(b"mine") + extra))
    target = rig.target(server.port)
    for _ in range(3):
        assert await rig.ask(target) == b"mine"
    assert server.connections == 3


@every_engine
async def test_idle_connections_expire(rig: Rig) -> None:
    rig.options = {"idle_s": 0.1}
    server = await rig.serve(echo)
    target = rig.target(server.port)
    await rig.ask(target, b"x")
    await rig.ask(target, b"x")
    assert server.connections == 1
    await asyncio.sleep(0.15)
    rig.transport.close_idle(time.monotonic())
    await until(lambda: server.open_connections == 0)
    assert await rig.ask(target, b"x") == b"x"
    await asyncio.sleep(0.15)
    assert await rig.ask(target, b"x") == b"x"
    assert server.connections == 3


@every_engine
async def test_close_idle_leaves_the_others(rig: Rig) -> None:
    server = await rig.serve(half)
    kept = await rig.serve(echo)
    call = rig.transport.call(rig.target(server.port), b"")
    await call.open(1.0)
    await rig.ask(rig.target(kept.port), b"x")
    rig.transport.close_idle(time.monotonic())
    assert await call.read() == b"half"
    await rig.ask(rig.target(kept.port), b"x")
    assert kept.connections == 1
    rig.transport.close_idle(time.monotonic() + 3600)
    await until(lambda: kept.open_connections == 0)
    assert server.open_connections == 1
    call.close()


@every_engine
async def test_connections_have_a_greatest_age(rig: Rig) -> None:
    rig.options = {"max_age_s": 0.1}
    server = await rig.serve(echo)
    target = rig.target(server.port)
    for _ in range(3):
        await rig.ask(target, b"x")
        await rig.ask(target, b"x")
        await asyncio.sleep(0.15)
    assert server.connections == 3
    assert [len(peer.requests) for peer in server.peers] == [2, 2, 2]


@pytest.mark.parametrize(
    ("keep_alive", "reused"),
    [("timeout=1", False), ("max=9, Timeout=60", True), ("timeout=x", True), ("timeout=0", False)],
)
@native_only
async def test_keep_alive_header_shortens_the_idle_time(rig: Rig, keep_alive: str, reused: bool) -> None:
    server = await rig.serve(replying(answer(b"x", f"Keep-Alive: {keep_alive}")))
    target = rig.target(server.port)
    await rig.ask(target)
    await rig.ask(target)
    assert server.connections == (1 if reused else 2)


@native_only
async def test_a_pool_lives_as_long_as_its_targets_or_connections(rig: Rig) -> None:
    server = await rig.serve(echo)
    target = rig.target(server.port)
    await rig.ask(target, b"x")
    pools = rig.transport._pools  # type: ignore[attr-defined]
    twin = rig.target(server.port)
    await rig.ask(twin, b"x")
    assert (len(pools), server.connections) == (1, 1)
    del target, twin
    assert len(pools) == 1
    rig.transport.close_idle(time.monotonic() + 3600)
    await until(lambda: server.open_connections == 0)
    await until(lambda: len(pools) == 0)


# -- back-pressure


@pytest.mark.parametrize("framing", ["length", "chunked", "tiny chunks", "close-delimited"])
@every_engine
async def test_a_flood_waits_for_its_reader(rig: Rig, framing: str) -> None:
    total = 50_000_000
    if framing == "tiny chunks":
        if not rig.native:
            pytest.skip("h11 takes 20 s for so many")
        total = 3_000_000
    unit = bytes(range(250)) * 200
    heads = {"length": f"content-length: {total}", "close-delimited": "x: y"}
    wire = {"chunked": chunked([unit], end=b""), "tiny chunks": chunked([b"z"] * 50_000, end=b"")}

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(head(heads.get(framing, "transfer-encoding: chunked")))
        for _ in range(total // len(unit)):
            await peer.send(wire.get(framing, unit))
        if framing in wire:
            await peer.send(b"0\r\n\r\n")

    server = await rig.serve(script)
    call = rig.transport.call(rig.target(server.port), b"")
    await call.open(1.0)
    sent = -1
    while sent < server.peers[0].sent:  # until the kernel's buffers are full too
        sent = server.peers[0].sent
        await asyncio.sleep(0.1)
    assert sent < 16_000_000
    assert call.size < 600_000  # type: ignore[attr-defined]
    got = 0
    while piece := await call.read():
        assert len(piece) < 1_000_000
        got += len(piece)
    assert got == total


@every_engine
async def test_abort_while_paused(rig: Rig) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(head())
        while True:
            await peer.send(bytes(65536))

    server = await rig.serve(script)
    call = rig.transport.call(rig.target(server.port), b"")
    await call.open(1.0)
    await asyncio.sleep(0.2)
    call.abort(Given())
    await until(lambda: server.open_connections == 0)
    with pytest.raises(Given):
        await call.read()
