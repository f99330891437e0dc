"""HTTP that is old, odd or means two things, through the whole gateway with a good key."""

from __future__ import annotations

import asyncio

import pytest

from tests.e2e.refusals import assert_refused, exchange
from tests.e2e.rig import CHAT, Gateway, chat
from tests.fakes import answers
from tests.fakes.answers import chat_stream, chunked, json_answer, open_stream, stream
from tests.fakes.client import request
from tests.fakes.upstream import Upstream, send, wait_for

pytestmark = pytest.mark.asyncio(loop_scope="module")

OK = json_answer(answers.chat_body("fine"))
EVENTS = chat_stream(["one ", "two "])
CODED = {"content-type": "application/json", "transfer-encoding": "chunked"}


async def _raw(gateway: Gateway, block: bytes, until: bytes = b"") -> bytes:
    """All that is answered to ``block``, or as far as ``until``."""
    reader, writer = await asyncio.open_connection(gateway.host, gateway.port)
    try:
        writer.write(block)
        async with asyncio.timeout(10):
            return await (reader.readuntil(until) if until else reader.read())
    finally:
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize("kept", [False, True])
async def test_http_1_0_streams_until_the_end_of_the_connection(
    gateway: Gateway, upstream: Upstream, kept: bool
) -> None:
    upstream.next(*stream(EVENTS))
    headers = {"connection": "keep-alive"} if kept else {}
    asked = chat(stream=True, stream_options={"include_usage": True})
    block = request(CHAT, asked, key=gateway.key, headers=headers)
    got = await _raw(gateway, block.replace(b" HTTP/1.1\r\nhost: gateway", b" HTTP/1.0"))
    head, _, body = got.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n") and b"connection: close" in head
    assert b"transfer-encoding" not in head and b"content-length" not in head
    assert body == b"".join(EVENTS)


async def test_http_1_0_gets_whole_answers_and_refusals(gateway: Gateway, upstream: Upstream) -> None:
    upstream.next(send(OK))
    for body, status in ((chat(), b"200"), (chat(n=0), b"400")):
        block = request(CHAT, body, key=gateway.key).replace(b" HTTP/1.1", b" HTTP/1.0")
        head, _, rest = (await _raw(gateway, block)).partition(b"\r\n\r\n")
        assert head.split(b" ")[1] == status
        assert b"content-length: %d\r\n" % len(rest) in head


@pytest.mark.parametrize(
    ("key", "length", "status"), [("nobody-has-this-key", "50", 401), ("", "99999999999", 413)]
)
async def test_nobody_is_asked_to_go_on_in_vain(
    gateway: Gateway, key: str, length: str, status: int
) -> None:
    headers = {"content-type": "application/json", "content-length": length, "expect": "100-continue"}
    block = request(CHAT, key=key or gateway.key, method="POST", headers=headers)
    got = await _raw(gateway, block)
    assert got.startswith(b"HTTP/1.1 %d " % status)
    assert b"100 Continue" not in got and b"connection: close" in got


async def test_who_waits_is_asked_to_go_on_once(gateway: Gateway, upstream: Upstream) -> None:
    upstream.next(send(OK))
    block = request(CHAT, chat(), key=gateway.key, headers={"expect": "100-Continue"})
    head, _, body = block.partition(b"\r\n\r\n")
    reader, writer = await asyncio.open_connection(gateway.host, gateway.port)
    writer.write(head + b"\r\n\r\n")
    async with asyncio.timeout(10):
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(body)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
    writer.close()
    await writer.wait_closed()


async def test_a_body_in_chunks_of_one_byte(gateway: Gateway, upstream: Upstream) -> None:
    upstream.next(send(OK))
    sent = chat(messages=[{"role": "user", "content": "x" * 200_000}])
    body = request("/", sent).partition(b"\r\n\r\n")[2]
    small = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
    got = await exchange(gateway, request(CHAT, key=gateway.key, method="POST", headers=CODED) + small)
    assert got.status == 200
    assert upstream.last.json()["messages"] == sent["messages"]


@pytest.mark.parametrize("early", [True, False])
async def test_a_pipelined_request_waits_for_the_stream(
    gateway: Gateway, upstream: Upstream, early: bool
) -> None:
    go_on = asyncio.Event()
    upstream.next(open_stream(*EVENTS[:2]), wait_for(go_on), send(chunked(EVENTS[2:])))
    upstream.next(send(OK))
    first, second = (request(CHAT, body, key=gateway.key) for body in (chat(stream=True), chat()))
    async with gateway.client() as client:
        await client.send(first + second if early else first)
        head = await client.read_head()
        assert await client.read_event() == EVENTS[0][6:-2]
        if not early:
            await client.send(second)
        await asyncio.sleep(0.1)
        assert upstream.waiting == 1  # the second is not begun
        go_on.set()
        rest = []
        while (event := await client.read_event()) is not None:
            rest.append(event)
        assert head.status == 200 and rest[-1] == b"[DONE]" and len(rest) == len(EVENTS) - 2
        answer = await client.read()
        assert (answer.status, answer.json()) == (200, answers.chat_body("fine"))


async def test_hop_by_hop_headers_end_here(gateway: Gateway, upstream: Upstream) -> None:
    upstream.next(send(OK))
    sent = {"connection": "close, x-hop, authorization", "x-hop": "1", "keep-alive": "timeout=5"}
    sent |= {"te": "trailers", "trailer": "x-late", "proxy-connection": "keep-alive"}
    async with gateway.client() as client:
        body = request("/", chat()).partition(b"\r\n\r\n")[2]
        head = request(CHAT, key=gateway.key, method="POST", headers={**CODED, **sent})
        await client.send(head + chunked([body])[:-2] + b"x-late: 1\r\nauthorization: Bearer x\r\n\r\n")
        got = await client.read()
        assert (got.status, got.header("connection")) == (200, "close")
        assert await client.closed(2.0)
    names = {name for name, _ in upstream.last.headers}
    assert names.isdisjoint({"te", "trailer", "x-hop", "x-late", "keep-alive", "proxy-connection"})
    assert upstream.last.header("authorization") == f"Bearer {gateway.provider_key}"


@pytest.mark.parametrize("protocol", ["h2c", "websocket", "TLS/1.2, HTTP/2.0"])
async def test_an_upgrade_is_not_taken_up(gateway: Gateway, protocol: str) -> None:
    asked = {"connection": "upgrade, http2-settings", "upgrade": protocol, "http2-settings": "AAMAAABk"}
    assert_refused(await gateway.ask(CHAT, chat(), headers=asked), 400, "invalid_request")
    got = await gateway.ask("/v1/models", headers=asked)
    assert (got.status, got.header("connection"), got.header("upgrade")) == (200, "close", None)
    assert_refused(await gateway.ask("/v1/models", key=None, headers=asked), 401, "invalid_api_key")


def _tampered(good: bytes) -> dict[str, tuple[bytes, int]]:
    """A request that would be answered, each with one thing about it that may be read in two ways."""
    line, _, rest = good.partition(b"\r\n")
    key = rest[rest.index(b"authorization") :].partition(b"\r\n")[0]
    length = rest[rest.index(b"content-length") :].partition(b"\r\n")[0]

    def more(header: bytes) -> bytes:
        return line + b"\r\n" + header + b"\r\n" + rest

    chunk = b"%x;%b\r\n%b\r\n0\r\n\r\n"
    body = rest.partition(b"\r\n\r\n")[2]
    refused = {
        "underscore": more(b"X_Gateway_User: a"),
        "underscored key": more(key.replace(b"authorization: Bearer", b"X_API_Key:")),
        "two keys": more(key),
        "two hosts": more(b"host: gateway"),
        "no host": good.replace(b"host: gateway\r\n", b""),
        "host with a path": good.replace(b"host: gateway", b"host: a/?x="),
        "both framings": more(b"transfer-encoding: chunked"),
        "two lengths": more(length),
        "signed length": good.replace(b"content-length: ", b"content-length: +"),
        "unknown coding": good.replace(length, b"transfer-encoding: xchunked"),
        "two codings": good.replace(length, b"transfer-encoding: identity, chunked"),
        "folded line": more(b"x-a: b\r\n c"),
        "bare line feed": more(b"x-a: b\nx-c: d"),
        "bare carriage return": more(b"x-a: b\rx-c: d"),
        "space before the colon": good.replace(b"content-length:", b"content-length :"),
        "NUL in a value": more(b"x-a: b\x00c"),
        "absolute target": good.replace(b"POST /", b"POST http://elsewhere/", 1),
        "long chunk extension": good.replace(length, b"transfer-encoding: chunked").replace(
            body, chunk % (len(body), b"x" * 100_000, body)
        ),
    }
    long = {
        "header of 70 KB": more(b"x-a: " + b"a" * 70_000),
        "20,000 headers": more(b"\r\n".join([b"x-a: b"] * 20_000)),
    }
    return {name: (block, 400) for name, block in refused.items()} | {
        name: (block, 431) for name, block in long.items()
    }


@pytest.mark.parametrize("name", _tampered(request(CHAT, chat(), key="-")))
async def test_what_means_two_things_is_refused_and_the_connection_closed(
    gateway: Gateway, name: str
) -> None:
    good = request(CHAT, chat(), key=gateway.key)
    block, status = _tampered(good)[name]
    async with gateway.client() as client:
        await client.send(block)
        got = await client.read()
        assert_refused(got, status, {400: "invalid_request", 431: "headers_too_large"}[status])
        assert got.header("connection") == "close"
        assert await client.closed(5.0)
