"""The scripted provider and the raw client, against each other."""

from __future__ import annotations

import asyncio

import pytest

from tests.fakes import answers
from tests.fakes.client import RawClient, request
from tests.fakes.upstream import SIZES, Upstream, fin, flood, hang, reset, send


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("framing", ["chunked", "length", "close"])
async def test_a_stream_arrives_whole_however_it_is_cut(size: int, framing: answers.Framing) -> None:
    events = answers.chat_stream(["a", "é", "☃"], azure=True, null_usage=True)
    async with Upstream() as upstream, RawClient("127.0.0.1", upstream.port) as client:
        upstream.next(*answers.stream(events, size=size, framing=framing))
        await client.send(request("/v1/x", {"a": 1}, key="k", headers={"X-Mine": "1"}))
        answer = await client.read()
        assert answer.status == 200
        assert [b"data: %b\n\n" % event for event in answer.events] == events
        assert upstream.last.json() == {"a": 1}
        assert upstream.last.header("x-mine") == "1"
        assert upstream.last.header("authorization") == "Bearer k"
        assert not upstream.busy


async def test_one_connection_takes_several_requests() -> None:
    async with Upstream() as upstream, RawClient("127.0.0.1", upstream.port) as client:
        for number in range(3):
            upstream.next(send(answers.head(status="103 Early Hints"), answers.json_answer(number)))
            await client.send(request("/", {}))
            assert (await client.read()).json() == number
        assert len(upstream.connections) == 1
        await client.send(request("/"))
        assert (await client.read()).status == 500
        assert upstream.unscripted == 1


async def test_it_notices_who_leaves() -> None:
    async with Upstream() as upstream:
        for leave in ("close", "reset"):
            upstream.next(answers.open_stream(answers.chunk({"content": "x"})), hang())
            async with RawClient("127.0.0.1", upstream.port) as client:
                await client.send(request("/", {}))
                await client.read_head()
                assert await client.read_event()
                assert len(upstream.busy) == 1
                await getattr(client, leave)()
                assert await upstream.last.left(1.0) > 0
            await asyncio.sleep(0.01)
            assert not upstream.busy


async def test_a_flood_ends_when_the_reader_goes() -> None:
    async with Upstream() as upstream:
        upstream.next(send(answers.head("content-length: 1000000000")), flood(b"x" * 65536, 16_000))
        async with RawClient("127.0.0.1", upstream.port) as client:
            await client.send(request("/", {}))
            await client.read_head()
            await client.reset()
        await upstream.last.left(2.0)
        assert upstream.last.connection.sent < 100_000_000


async def test_reset_and_end_are_told_apart() -> None:
    async with Upstream() as upstream:
        upstream.next(answers.open_stream(b""), reset())
        upstream.next(answers.open_stream(b""), fin())
        for expected in (ConnectionResetError, asyncio.IncompleteReadError):
            async with RawClient("127.0.0.1", upstream.port) as client:
                await client.send(request("/", {}))
                with pytest.raises(expected):
                    await client.read()
