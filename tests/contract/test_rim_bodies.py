"""Bodies: bounds, 100-continue, pipelining, answers that come before the body has."""

from __future__ import annotations

import asyncio

import pytest

from tests.contract.rim_rig import CAP, peer, served, until

POST = b"POST %b HTTP/1.1\r\nHost: gateway\r\n"


async def test_keep_alive_and_pieces_of_any_size() -> None:
    async with served() as site, peer(site) as client:
        request = POST % b"/a" + b"Content-Length: 10\r\n\r\n0123456789"
        for size in (1, 2, 3, 7, len(request)):
            for start in range(0, len(request), size):
                await client.send(request[start : start + size])
                await asyncio.sleep(0)
            status, headers, _ = await client.answer()
            assert status == 200 and "connection" not in headers
        assert site.seen == [("/a", b"0123456789")] * 5


async def test_a_chunked_upload_of_single_bytes() -> None:
    async with served() as site, peer(site) as client:
        await client.send(POST % b"/a" + b"Transfer-Encoding: chunked\r\n\r\n")
        for _ in range(20):
            await client.send(b"1\r\nx\r\n" * 5_000)
        await client.send(b"0\r\n\r\n")
        status, _, body = await client.answer(20)
        assert (status, body) == (200, b'{"path":"/a","size":100000}')


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_over_the_cap_gets_a_readable_413(chunked: bool) -> None:
    """The client is still sending when the answer comes, and must be able to read it."""
    async with served() as site, peer(site) as client:
        size = 3 * CAP
        framing = (
            b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % size
            if chunked
            else b"Content-Length: %d\r\n\r\n" % size
        )
        client.writer.write(POST % b"/a" + framing)
        client.writer.write(b"x" * (CAP + 1))
        status, headers, body = await client.answer()
        assert status == 413 and b"body_too_large" in body
        assert headers["connection"] == "close"
        client.writer.write(b"x" * CAP)
        assert await client.all() == b""
        assert site.seen == []


async def test_what_is_held_before_anybody_asks_is_bounded() -> None:
    async with served() as site, peer(site) as client:
        await client.send(b"GET /hold HTTP/1.1\r\nHost: a\r\n\r\n")
        await until(lambda: site.seen)
        client.writer.write(POST % b"/next" + b"Content-Length: 900000\r\n\r\n" + b"x" * 900_000)
        await asyncio.sleep(0.2)
        (connection,) = site.connections()
        assert connection.flow.read_paused
        site.release.set()
        assert (await client.answer())[0] == 200
        assert (await client.answer())[2] == b'{"path":"/next","size":900000}'


async def test_expect_is_answered_only_by_who_reads() -> None:
    async with served() as site, peer(site) as client:
        await client.send(POST % b"/a" + b"Content-Length: 3\r\nExpect: 100-continue\r\n\r\n")
        assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await client.send(b"abc")
        assert (await client.answer())[0] == 200
        await client.send(POST % b"/early" + b"Content-Length: 3\r\nExpect: 100-continue\r\n\r\n")
        status, headers, _ = await client.answer()
        assert (status, headers["connection"]) == (401, "close")
        assert await client.all() == b""


async def test_an_answer_before_the_body_does_not_cost_the_answer() -> None:
    async with served() as site, peer(site) as client:
        client.writer.write(POST % b"/early" + b"Content-Length: 5000000\r\n\r\n" + b"x" * 3_000_000)
        assert (await client.answer())[0] == 401
        assert await client.all() == b""
    assert not site.failed


async def test_pipelined_requests_are_answered_in_order() -> None:
    async with served() as site, peer(site) as client:
        await client.send(b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % n for n in range(5)))
        bodies = [(await client.answer())[2] for _ in range(5)]
        assert bodies == [b'{"path":"/%d","size":0}' % n for n in range(5)]
        assert [path for path, _ in site.seen] == [f"/{n}" for n in range(5)]


async def test_a_stream_and_a_pipelined_request_are_never_mixed() -> None:
    async with served() as site, peer(site) as client:
        await client.send(b"GET /stream HTTP/1.1\r\nHost: a\r\n\r\nGET /b HTTP/1.1\r\nHost: a\r\n\r\n")
        _, headers, body = await client.answer()
        assert headers["transfer-encoding"] == "chunked"
        assert body == b"data: 0\n\ndata: 1\n\ndata: 2\n\ndata: [DONE]\n\n"
        assert (await client.answer())[2] == b'{"path":"/b","size":0}'


async def test_a_flood_of_pipelined_requests_is_cut_short() -> None:
    async with served(pipelined=4) as site, peer(site) as client:
        await client.send(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n" * 400)
        answers = (await client.all()).count(b"HTTP/1.1 200")
        assert 1 <= answers <= 5
        assert len(site.seen) == answers


async def test_garbage_behind_a_request_does_not_cost_its_answer() -> None:
    async with served() as site, peer(site) as client:
        await client.send(b"GET /hold HTTP/1.1\r\nHost: a\r\n\r\n")
        await until(lambda: site.seen)
        await client.send(b"\x00\x01garbage\r\n\r\n")
        await asyncio.sleep(0.05)
        site.release.set()
        status, headers, _ = await client.answer()
        assert (status, headers["connection"]) == (200, "close")
        assert await client.all() == b""


async def test_broken_chunks_end_in_400() -> None:
    async with served() as site, peer(site) as client:
        await client.send(POST % b"/a" + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nZZZ\r\n")
        status, headers, _ = await client.answer()
        assert (status, headers["connection"]) == (400, "close")
        assert site.seen == []


async def test_http_1_0_streams_by_close_and_may_keep_alive() -> None:
    async with served() as site, peer(site) as client:
        await client.send(b"GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        status, headers, _ = await client.answer()
        assert (status, headers["connection"]) == (200, "keep-alive")
        await client.send(b"GET /stream HTTP/1.0\r\n\r\n")
        head, _, body = (await client.all()).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200") and b"chunked" not in head
        assert body == b"data: 0\n\ndata: 1\n\ndata: 2\n\ndata: [DONE]\n\n"


async def test_head_gets_no_body() -> None:
    async with served() as site, peer(site) as client:
        await client.send(b"HEAD /a HTTP/1.1\r\nHost: a\r\n\r\nGET /b HTTP/1.1\r\nHost: a\r\n\r\n")
        head = await client.reader.readuntil(b"\r\n\r\n")
        assert b"content-length: 22" in head
        assert (await client.answer())[2] == b'{"path":"/b","size":0}'


async def test_a_fault_of_ours_is_500_and_a_cut_answer_never_looks_complete() -> None:
    async with served() as site:
        async with peer(site) as client:
            await client.send(b"GET /broken HTTP/1.1\r\nHost: a\r\n\r\n")
            status, _, body = await client.answer()
            assert status == 500 and b"a fault of ours" not in body
        async with peer(site) as client:
            await client.send(b"GET /half HTTP/1.1\r\nHost: a\r\n\r\n")
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await client.answer()
        assert [type(fault) for fault in site.failed] == [LookupError]


@pytest.mark.parametrize("reset", [False, True])
async def test_a_client_that_leaves_is_noticed(reset: bool) -> None:
    async with served() as site, peer(site) as client:
        await client.send(b"GET /hold HTTP/1.1\r\nHost: a\r\n\r\n")
        await until(lambda: site.seen)
        if reset:
            client.reset()
        else:
            client.writer.close()
        await until(lambda: site.left == ["/hold"])
        assert not site.connections()
