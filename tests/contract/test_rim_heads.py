"""Heads that mean two things, or are too long, never reach the application."""

from __future__ import annotations

import orjson
import pytest

from tests.contract.rim_rig import peer, served

HOST = b"Host: gateway\r\n"

REFUSED = {
    "two hosts": b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "a host with a path": b"GET / HTTP/1.1\r\nHost: a/?x=\r\n\r\n",
    "a host with a user": b"GET / HTTP/1.1\r\nHost: b@a\r\n\r\n",
    "length and chunked": b"POST / HTTP/1.1\r\n"
    + HOST
    + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    "a signed length": b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: +3\r\n\r\nabc",
    "a huge length": b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 99999999999999999999\r\n\r\n",
    "an unknown coding": b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "two codings": b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunked in 1.0": b"POST / HTTP/1.0\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a folded line": b"GET / HTTP/1.1\r\n" + HOST + b"X: a\r\n b\r\n\r\n",
    "bare line feeds": b"GET / HTTP/1.1\nHost: a\n\n",
    "a bare line feed": b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n",
    "space before the colon": b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
    "NUL in a value": b"GET / HTTP/1.1\r\n" + HOST + b"X: a\x00b\r\n\r\n",
    "an absolute target": b"GET http://elsewhere/ HTTP/1.1\r\n" + HOST + b"\r\n",
    "CONNECT": b"CONNECT elsewhere:443 HTTP/1.1\r\n" + HOST + b"\r\n",
    "HTTP/2": b"GET / HTTP/2.0\r\n" + HOST + b"\r\n",
    "HTTP/0.9": b"GET /\r\n\r\n",
    "not HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "two keys of a kind": b"GET / HTTP/1.1\r\n"
    + HOST
    + b"Authorization: Bearer a\r\nAuthorization: Bearer b\r\n\r\n",
    "an upgrade with a body": b"POST / HTTP/1.1\r\n"
    + HOST
    + b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 1\r\n\r\nx",
    "an underscore": b"GET / HTTP/1.1\r\n" + HOST + b"X_Gateway_User: a\r\n\r\n",
    "a chunk extension of 100 KB": b"POST / HTTP/1.1\r\n"
    + HOST
    + b"Transfer-Encoding: chunked\r\n\r\n1;"
    + b"x" * 100_000
    + b"\r\na\r\n0\r\n\r\n",
}

TOO_LONG = {
    "a header of 70 KB": b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 70_000 + b"\r\n\r\n",
    "a header of 9 KB": b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 9_000 + b"\r\n\r\n",
    "20,000 headers": b"GET / HTTP/1.1\r\n" + HOST + b"X: a\r\n" * 20_000 + b"\r\n",
    "101 headers": b"GET / HTTP/1.1\r\n" + HOST + b"X: a\r\n" * 100 + b"\r\n",
    "headers of 40 KB": b"GET / HTTP/1.1\r\n"
    + HOST
    + b"".join(b"X%d: %b\r\n" % (n, b"a" * 4000) for n in range(10))
    + b"\r\n",
    "a URL of 9 KB": b"GET /" + b"a" * 9_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n",
    "a URL without end": b"GET /" + b"a" * 200_000,
    "a header without end": b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 200_000,
    "a name without end": b"GET / HTTP/1.1\r\n" + HOST + b"a" * 200_000,
}


@pytest.mark.parametrize("name", REFUSED)
async def test_ambiguous_heads_are_refused_and_the_connection_closed(name: str) -> None:
    async with served() as site, peer(site) as client:
        await client.send(REFUSED[name])
        status, headers, body = await client.answer()
        assert status == 400, name
        assert headers["connection"] == "close"
        assert orjson.loads(body)["error"]["code"] == "invalid_request"
        assert await client.all() == b""
        assert site.seen == []
        assert not site.failed


@pytest.mark.parametrize("name", TOO_LONG)
async def test_heads_that_are_too_long_answer_431(name: str) -> None:
    async with served() as site, peer(site) as client:
        await client.send(TOO_LONG[name])
        status, headers, body = await client.answer()
        assert status == 431, name
        error = orjson.loads(body)["error"]
        assert error["code"] == "headers_too_large"
        assert headers["x-request-id"] == error["request_id"]
        assert site.seen == [] and site.refused == ["headers_too_large"]


@pytest.mark.parametrize("size", [1, 2, 3, 7])
async def test_limits_hold_for_a_head_that_comes_in_pieces(size: int) -> None:
    async with served() as site, peer(site) as client:
        head = b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 9000 + b"\r\n\r\n"
        for start in range(0, len(head), size * 100):
            client.writer.write(head[start : start + size * 100])
        status, _, _ = await client.answer()
        assert status == 431
        assert site.seen == []


async def test_a_trailer_is_not_a_header() -> None:
    async with served() as site, peer(site) as client:
        await client.send(
            b"POST /a HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
            b"3\r\nabc\r\n0\r\nAuthorization: Bearer stolen\r\n\r\n"
        )
        status, _, _ = await client.answer()
        assert status == 200
        assert site.seen == [("/a", b"abc")]


async def test_an_upgrade_is_ignored_and_the_connection_closed() -> None:
    async with served() as site, peer(site) as client:
        await client.send(
            b"GET /a HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
            b"GET /b HTTP/1.1\r\n" + HOST + b"\r\n"
        )
        status, headers, _ = await client.answer()
        assert (status, headers["connection"]) == (200, "close")
        assert await client.all() == b""
        assert site.seen == [("/a", b"")]


async def test_ordinary_doubles_pass() -> None:
    async with served() as site, peer(site) as client:
        await client.send(b"GET /a HTTP/1.1\r\n" + HOST + b"Accept: a\r\nAccept: b\r\nX_Other: c\r\n\r\n")
        status, headers, _ = await client.answer()
        assert status == 200 and "connection" not in headers
        assert site.seen == [("/a", b"")]
