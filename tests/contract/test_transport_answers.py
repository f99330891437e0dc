"""Answers as they should be, in every framing and cutting, and what is never done with them."""

from __future__ import annotations

import zlib

import pytest

from gateway.errors import UpstreamInvalidResponse
from gateway.providers.transport import Endpoint, Target
from tests.contract.rawserver import (
    CHUNK_SIZES,
    Peer,
    answer,
    chunked,
    gzipped,
    head,
    replying,
    replying_then_closing,
)
from tests.contract.transport_rig import Rig, every_engine, httpx_only, native_only, until

BODY = b'{"text": "' + bytes(range(32, 127)) * 8 + b'"}'
TRAILERS = b"0;last\r\nx-trailer: t\r\nx-other: u\r\n\r\n"

KEPT = {
    "length": answer(BODY),
    "chunked": head("Transfer-Encoding: chunked") + chunked([BODY[:1], BODY[1:700], BODY[700:]]),
    "extensions and trailers": head("transfer-encoding: Chunked")
    + chunked([BODY], extension=b";a=b", end=TRAILERS),
    "1.0 keep-alive": answer(BODY, "connection: keep-alive", version="1.0"),
    "1xx before": head("link: </x>", status="103 Early Hints") + head(status="100 Continue") + answer(BODY),
}
ENDED = {
    "close-delimited": head() + BODY,
    "1.0": head(version="1.0") + BODY,
    "1.0 with length": answer(BODY, version="1.0"),
    "connection: close": answer(BODY, "Connection: Close"),
    "chunked, close": head("transfer-encoding: chunked", "connection: close") + chunked([BODY]),
}


@every_engine
async def test_request_on_the_wire(rig: Rig) -> None:
    server = await rig.serve(replying(answer(b"ok")))
    target = rig.target(server.port)
    call = rig.transport.call(target, b'{"a": 1}', [(b"x-extra", b"e")])
    await call.open(1.0)
    assert await call.read_all(10) == b"ok"
    request = server.requests[0]
    assert request.line == "POST /v1/chat?v=1 HTTP/1.1"
    assert request.body == b'{"a": 1}'
    assert dict(request.headers) == {
        "host": f"127.0.0.1:{server.port}",
        "accept-encoding": "identity",
        "x-fixed": "f",
        "x-extra": "e",
        "content-length": "8",
    }
    assert len(request.headers) == 5


@pytest.mark.parametrize("size", CHUNK_SIZES)
@pytest.mark.parametrize("framing", KEPT)
@every_engine
async def test_framing_keeps_the_connection(rig: Rig, framing: str, size: int) -> None:
    server = await rig.serve(replying(KEPT[framing], size))
    target = rig.target(server.port)
    for _ in range(3):
        assert await rig.ask(target) == BODY
    # h11, under httpx, never reuses a 1.0 connection.
    assert server.connections == (3 if "1.0" in framing and not rig.native else 1)
    assert len(server.requests) == 3


@pytest.mark.parametrize("size", CHUNK_SIZES)
@pytest.mark.parametrize("framing", ENDED)
@every_engine
async def test_framing_ends_the_connection(rig: Rig, framing: str, size: int) -> None:
    server = await rig.serve(replying_then_closing(ENDED[framing], size))
    target = rig.target(server.port)
    for _ in range(2):
        assert await rig.ask(target) == BODY
    assert server.connections == 2


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
@every_engine
async def test_no_body_by_status(rig: Rig, status: str) -> None:
    server = await rig.serve(replying(head(status=status)))
    target = rig.target(server.port)
    assert [await rig.ask(target), await rig.ask(target)] == [b"", b""]
    assert server.connections == 1


@every_engine
async def test_head_as_it_came(rig: Rig) -> None:
    server = await rig.serve(
        replying(answer(b"", "X-Name:  v w \t", "x-name: 2", "X-Empty:", status="418 T"))
    )
    call = rig.transport.call(rig.target(server.port), b"")
    await call.open(1.0)
    assert call.status == 418
    assert call.headers[:3] == [(b"x-name", b"v w"), (b"x-name", b"2"), (b"x-empty", b"")]
    assert call.header(b"x-name") == b"v w"
    assert call.header(b"absent") is None
    assert await call.read() == b""


@every_engine
async def test_reads_what_has_arrived_and_waits_for_more(rig: Rig) -> None:
    seen: list[bytes] = []

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(head("transfer-encoding: chunked"))
        for count, piece in enumerate((b"one", b"two"), start=1):
            await peer.send(chunked([piece], end=b""))
            await until(lambda count=count: len(seen) == count)  # type: ignore[misc]
        await peer.send(b"0\r\n\r\n")
        assert await peer.gone()

    server = await rig.serve(script)
    call = rig.transport.call(rig.target(server.port), b"")
    await call.open(1.0)
    while piece := await call.read():
        seen.append(piece)
    assert seen == [b"one", b"two"]
    assert await call.read() == b""
    await rig.transport.aclose()


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary", "308 Permanent"])
@every_engine
async def test_redirects_are_answers(rig: Rig, status: str) -> None:
    other = await rig.serve(replying(answer(b"stolen")))
    location = f"location: http://127.0.0.1:{other.port}/"
    server = await rig.serve(replying(answer(b"go", location, status=status)))
    call = rig.transport.call(rig.target(server.port), b"")
    await call.open(1.0)
    assert call.status == int(status[:3])
    assert await call.read_all(10) == b"go"
    assert other.connections == 0


@every_engine
async def test_cookies_are_never_sent_back(rig: Rig) -> None:
    server = await rig.serve(replying(answer(b"", "set-cookie: session=1; Path=/")))
    target = rig.target(server.port)
    for _ in range(3):
        await rig.ask(target)
    assert [request.header("cookie") for request in server.requests] == [None] * 3


CODED = {
    "gzip": gzipped(BODY),
    "x-gzip": gzipped(BODY),
    "GZIP": gzipped(BODY[:500]) + gzipped(b"") + gzipped(BODY[500:]),
    "deflate": zlib.compress(BODY),
    "Deflate": zlib.compress(BODY)[2:-4],
    "identity": BODY,
}


@pytest.mark.parametrize("size", CHUNK_SIZES)
@pytest.mark.parametrize("coding", CODED)
@every_engine
async def test_known_codings_are_inflated(rig: Rig, coding: str, size: int) -> None:
    block = answer(CODED[coding], f"Content-Encoding: {coding}")
    server = await rig.serve(replying(block, size))
    target = rig.target(server.port)
    call = rig.transport.call(target, b"")
    await call.open(1.0)
    if coding != "identity":
        assert call.header(b"content-encoding") is None
        assert call.header(b"content-length") is None
    assert await call.read_all(1 << 20) == BODY
    assert await rig.ask(target) == BODY
    assert server.connections == 1


@pytest.mark.parametrize("size", [1, 0])
@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("gzip", BODY),
        ("gzip", gzipped(BODY)[:-9]),
        ("gzip", gzipped(BODY) + b"more"),
        ("deflate", b"\xff" * 50),
        ("deflate", zlib.compress(BODY) + b"more"),
        ("br", BODY),
        ("gzip, gzip", gzipped(gzipped(BODY))),
        ("zstd", BODY),
    ],
)
@every_engine
async def test_what_is_not_as_labelled(rig: Rig, coding: str, body: bytes, size: int) -> None:
    block = answer(body, f"content-encoding: {coding}", status="429 Slow down")
    server = await rig.serve(replying(block, size))
    call = rig.transport.call(rig.target(server.port), b"")
    await call.open(1.0)
    assert call.status == 429
    with pytest.raises(UpstreamInvalidResponse):
        await call.read_all(1 << 20)
    with pytest.raises(UpstreamInvalidResponse):
        await call.read()
    call.close()


@every_engine
async def test_two_coding_headers_are_one_list(rig: Rig) -> None:
    twice = answer(gzipped(gzipped(BODY)), "content-encoding: gzip", "content-encoding: gzip")
    server = await rig.serve(replying(twice))
    error = await rig.fails(rig.target(server.port))
    assert isinstance(error, UpstreamInvalidResponse)


@every_engine
async def test_an_empty_body_may_be_labelled(rig: Rig) -> None:
    server = await rig.serve(replying(answer(b"", "content-encoding: gzip")))
    assert await rig.ask(rig.target(server.port)) == b""


@every_engine
async def test_a_bomb_is_inflated_step_by_step(rig: Rig) -> None:
    bomb = gzipped(bytes(50_000_000))
    server = await rig.serve(replying(answer(bomb, "content-encoding: gzip")))
    target = rig.target(server.port)
    call = rig.transport.call(target, b"")
    await call.open(1.0)
    assert {len(await call.read()) for _ in range(10)} == {256 * 1024}
    call.close()
    again = rig.transport.call(target, b"")
    await again.open(1.0)
    with pytest.raises(UpstreamInvalidResponse):
        await again.read_all(1_000_000)


@every_engine
async def test_read_up_to_takes_the_start_of_a_large_body(rig: Rig) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(head("content-length: 200000000", status="400 Bad"))
        while True:
            await peer.send(b"x" * 65536)

    server = await rig.serve(script)
    call = rig.transport.call(rig.target(server.port), b"")
    await call.open(1.0)
    assert await call.read_up_to(65536) == b"x" * 65536
    assert await server.peers[0].gone()
    assert server.peers[0].sent < 20_000_000


@every_engine
async def test_read_up_to_reuses_after_a_small_body(rig: Rig) -> None:
    server = await rig.serve(replying(answer(b"small", status="400 Bad")))
    target = rig.target(server.port)
    for _ in range(2):
        call = rig.transport.call(target, b"")
        await call.open(1.0)
        assert await call.read_up_to(65536) == b"small"
        call.close()
    assert server.connections == 1


@every_engine
async def test_read_all_stops_at_its_cap(rig: Rig) -> None:
    server = await rig.serve(replying(answer(b"x" * 1000)))
    target = rig.target(server.port)
    assert await rig.ask(target, cap=1000) == b"x" * 1000
    call = rig.transport.call(target, b"")
    await call.open(1.0)
    with pytest.raises(UpstreamInvalidResponse):
        await call.read_all(999)


@every_engine
async def test_large_bodies_both_ways(rig: Rig) -> None:
    async def script(peer: Peer) -> None:
        while request := await peer.request():
            await peer.send(answer(request.body))

    server = await rig.serve(script)
    target = rig.target(server.port)
    body = bytes(range(256)) * 20_000
    assert await rig.ask(target, body) == body
    assert await rig.ask(target, body) == body
    assert server.connections == 1


def _target_with(name: bytes, value: bytes) -> Target:
    return Target(Endpoint("http", "h", 1), "POST", "/", [(name, value)])


@pytest.mark.parametrize("value", [b"a\r\nx: y", b"a\ny", b"a\ry", b"a\0"])
@every_engine
async def test_header_values_cannot_break_out(rig: Rig, value: bytes) -> None:
    with pytest.raises(ValueError, match="line break"):
        rig.transport.call(rig.target(1), b"", [(b"x", value)])
    with pytest.raises(ValueError, match="line break"):
        _target_with(b"x", value)


@pytest.mark.parametrize("name", [b"Content-Length", b"host", b"transfer-encoding", b"a b", b""])
def test_header_names_that_are_not_the_callers(name: bytes) -> None:
    with pytest.raises(ValueError, match="cannot be set"):
        _target_with(name, b"v")


@pytest.mark.parametrize("path", ["", "v1", "/a b", "/a\r\nx: y", "/é"])
def test_paths_that_break_the_request_line(path: str) -> None:
    with pytest.raises(ValueError, match="path"):
        Target(Endpoint("http", "h", 1), "POST", path)


@pytest.mark.parametrize(
    ("url", "authority", "path"),
    [
        ("https://api.example.com/v1/", "api.example.com", "/v1"),
        ("http://localhost:8000", "localhost:8000", ""),
        ("https://h:443/a/b", "h", "/a/b"),
        ("http://[::1]:80/v1", "[::1]", "/v1"),
        ("https://bücher.example:1/", "xn--bcher-kva.example:1", ""),
    ],
)
def test_endpoint_of_a_base_url(url: str, authority: str, path: str) -> None:
    endpoint, base = Endpoint.of(url)
    assert (endpoint.authority, base) == (authority, path)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://h/",
        "h",
        "http://",
        "http://u:p@h/",
        "http://h/?q",
        "http://h:0/",
        "http://a b/",
        "http://" + "a" * 64,
    ],
)
def test_base_urls_that_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Endpoint.of(url)


@httpx_only
async def test_a_password_of_a_proxy_is_not_shown(rig: Rig) -> None:
    endpoint = Endpoint("http", "h", 1, proxy="http://u:secret@p:1")
    assert "secret" not in repr(endpoint)


@native_only
async def test_proxies_need_the_other_engine(rig: Rig) -> None:
    with pytest.raises(ValueError, match="httpx"):
        rig.transport.call(rig.target(1, proxy="http://p:1"), b"")
