"""What can go wrong on the way: each fault has one error, and says what was sent."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from gateway.errors import Sent, UpstreamError, UpstreamInvalidResponse, UpstreamTimeout
from gateway.providers.transport import StaleConnection
from tests.contract.rawserver import CHUNK_SIZES, Peer, RawServer, Script, answer, chunked, head
from tests.contract.transport_rig import (
    Rig,
    black_hole,
    every_engine,
    native_only,
    tls_server,
    until,
)


def once(block: bytes, *, reset: bool = False, size: int = 0) -> Script:
    async def script(peer: Peer) -> None:
        if await peer.request():
            await peer.send(block, size)
            if reset:
                await asyncio.sleep(0.02)
                peer.reset()

    return script


@every_engine
async def test_connection_refused(rig: Rig) -> None:
    async with RawServer(once(b"")) as server:
        port = server.port
    error = await rig.fails(rig.target(port))
    assert error.sent is Sent.NEVER
    assert error.blames_deployment


@every_engine
async def test_no_such_host(rig: Rig) -> None:
    error = await rig.fails(rig.target(80, host="no.such.host.invalid"))
    assert error.sent is Sent.NEVER


@every_engine
async def test_black_hole(rig: Rig) -> None:
    with black_hole() as port:
        call = rig.transport.call(rig.target(port), b"")
        start = time.monotonic()
        with pytest.raises(UpstreamTimeout) as caught:
            await call.open(0.2)
        assert 0.15 < time.monotonic() - start < 1.0
        assert caught.value.sent is Sent.NEVER


@every_engine
async def test_tls_that_never_shakes_hands(rig: Rig) -> None:
    async def script(peer: Peer) -> None:
        assert await peer.gone(5.0)

    server = await rig.serve(script)
    call = rig.transport.call(rig.target(server.port, scheme="https"), b"")
    with pytest.raises(UpstreamTimeout) as caught:
        await call.open(0.2)
    assert caught.value.sent is Sent.NEVER
    await until(lambda: server.open_connections == 0)


@every_engine
async def test_tls_with_an_unknown_authority(rig: Rig, tmp_path: Path) -> None:
    context, _ = tls_server(tmp_path)
    server = await rig.serve(once(answer(b"no")), tls=context)
    error = await rig.fails(rig.target(server.port, scheme="https"))
    assert error.sent is Sent.NEVER
    assert not server.requests


@every_engine
async def test_tls_for_another_name(rig: Rig, tmp_path: Path) -> None:
    context, ca_file = tls_server(tmp_path, name="elsewhere.example")
    server = await rig.serve(once(answer(b"no")), tls=context)
    target = rig.target(server.port, scheme="https", host="localhost", ca_file=ca_file)
    assert (await rig.fails(target)).sent is Sent.NEVER
    assert not server.requests


@every_engine
async def test_tls_with_its_own_authority(rig: Rig, tmp_path: Path) -> None:
    context, ca_file = tls_server(tmp_path)
    names: list[str | None] = []
    context.sni_callback = lambda _socket, name, _context: names.append(name)

    async def script(peer: Peer) -> None:
        while request := await peer.request():
            await peer.send(answer(request.body), 1460)

    server = await rig.serve(script, tls=context)
    target = rig.target(server.port, scheme="https", host="localhost", ca_file=ca_file)
    body = bytes(range(256)) * 2000
    assert [await rig.ask(target, body) for _ in range(3)] == [body] * 3
    assert server.connections == 1
    assert names == ["localhost"]


@every_engine
async def test_tls_where_plain_http_answers(rig: Rig) -> None:
    async def script(peer: Peer) -> None:
        await peer.reader.read(1)
        await peer.send(answer(b"plain", status="400 Bad"))

    server = await rig.serve(script)
    assert (await rig.fails(rig.target(server.port, scheme="https"))).sent is Sent.NEVER


@every_engine
async def test_a_ca_file_that_is_not_there(rig: Rig, tmp_path: Path) -> None:
    target = rig.target(1, scheme="https", ca_file=str(tmp_path / "none.pem"))
    assert (await rig.fails(target)).sent is Sent.NEVER


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("block", [b"", b"HT", head()[:-1], head(status="100 Continue")])
@every_engine
async def test_ended_before_the_head(rig: Rig, block: bytes, reset: bool) -> None:
    server = await rig.serve(once(block, reset=reset))
    error = await rig.fails(rig.target(server.port))
    assert error.sent is Sent.AMBIGUOUS
    assert type(error) is UpstreamError
    assert error.upstream_status is None
    assert error.blames_deployment


CUT = {
    "length": head("content-length: 8") + b"goo",
    "chunked inside a chunk": head("transfer-encoding: chunked") + b"8\r\ngoo",
    "chunked between chunks": head("transfer-encoding: chunked") + chunked([b"goo"], end=b""),
    "chunked before the last line": head("transfer-encoding: chunked") + chunked([b"goo"], end=b"0\r\n"),
}


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("size", CHUNK_SIZES)
@pytest.mark.parametrize("cut", CUT)
@every_engine
async def test_ended_inside_the_body(rig: Rig, cut: str, size: int, reset: bool) -> None:
    server = await rig.serve(once(CUT[cut], reset=reset, size=size))
    call = rig.transport.call(rig.target(server.port), b"")
    await call.open(1.0)
    got = b""
    with pytest.raises(UpstreamError) as caught:
        while piece := await call.read():
            got += piece
    assert got == b"goo"
    assert caught.value.sent is Sent.AMBIGUOUS
    assert caught.value.upstream_status == 200
    assert not isinstance(caught.value, UpstreamInvalidResponse | StaleConnection)
    with pytest.raises(UpstreamError):
        await call.read()
    call.close()


@every_engine
async def test_a_reset_is_no_end_of_a_close_delimited_body(rig: Rig) -> None:
    server = await rig.serve(once(head() + b"half", reset=True))
    error = await rig.fails(rig.target(server.port))
    assert error.sent is Sent.AMBIGUOUS


GARBAGE = {
    "not http": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "binary": bytes(range(200)),
    "http/2 settings": b"\x00\x00\x00\x04\x00\x00\x00\x00\x00",
    "status": b"HTTP/1.1 abc OK\r\n\r\n",
    "status 0": b"HTTP/1.1 000 OK\r\ncontent-length: 0\r\n\r\n",
    "length": head("content-length: two") + b"ok",
    "negative length": head("content-length: -2") + b"ok",
    "two lengths": head("content-length: 2", "content-length: 3") + b"okk",
    "unknown coding": head("transfer-encoding: gzip, chunked") + chunked([b"ok"]),
    "switching": head("upgrade: h2c", "connection: upgrade", status="101 Switching Protocols"),
    "header name": head("bad name: x", "content-length: 2") + b"ok",
    "huge head": head("x-huge: " + "a" * 200_000, "content-length: 2") + b"ok",
    "many headers": head(*["x-many: " + "a" * 100] * 1000, "content-length: 2") + b"ok",
}


@pytest.mark.parametrize("size", [3, 1460, 0])
@pytest.mark.parametrize("garbage", GARBAGE)
@every_engine
async def test_garbage_instead_of_a_head(rig: Rig, garbage: str, size: int) -> None:
    if size == 3 and len(GARBAGE[garbage]) > 10_000:
        size = 300

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(GARBAGE[garbage], size)
        await peer.gone(5.0)

    server = await rig.serve(script)
    error = await rig.fails(rig.target(server.port))
    assert isinstance(error, UpstreamInvalidResponse), error.detail
    assert error.sent is Sent.AMBIGUOUS
    await until(lambda: server.open_connections == 0)


@pytest.mark.parametrize("body", [b"zz\r\nok\r\n0\r\n\r\n", b"f" * 30 + b"\r\nok", b"2\r\nokay\r\n"])
@every_engine
async def test_garbage_instead_of_a_chunk(rig: Rig, body: bytes) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(head("transfer-encoding: chunked") + chunked([b"good"], end=b""))
        await peer.send(body)
        assert await peer.gone()

    server = await rig.serve(script)
    error = await rig.fails(rig.target(server.port))
    assert isinstance(error, UpstreamInvalidResponse), error.detail
    assert error.upstream_status == 200


@pytest.mark.parametrize(
    "flood",
    [
        (b"", head(status="100 Continue")),
        (b"HTTP/1.1 200 OK\r\nx: ", b"a" * 1000),
        (head("transfer-encoding: chunked") + b"2;", b"ext=1;" * 100),
        (head("transfer-encoding: chunked") + b"0\r\nx-trailer: ", b"a" * 1000),
    ],
)
@native_only
async def test_floods_without_a_body_are_bounded(rig: Rig, flood: tuple[bytes, bytes]) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(flood[0])
        while peer.sent < 50_000_000:
            await peer.send(flood[1] * 10)

    server = await rig.serve(script)
    error = await rig.fails(rig.target(server.port))
    assert isinstance(error, UpstreamInvalidResponse)
    await until(lambda: server.open_connections == 0)
    assert server.peers[0].sent < 20_000_000


@every_engine
async def test_an_early_refusal_of_a_large_body_is_read(rig: Rig) -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(answer(b"too large", "connection: close", status="413 Too Large"))
        assert await peer.gone(5.0)

    server = await rig.serve(script)
    call = rig.transport.call(rig.target(server.port), bytes(4_000_000))
    await call.open(1.0)
    assert call.status == 413
    assert await call.read_all(100) == b"too large"
    call.close()
    await until(lambda: server.open_connections == 0)


@native_only
async def test_an_early_answer_does_not_free_the_connection(rig: Rig) -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(answer(b"early"))
        assert await peer.gone(5.0)

    server = await rig.serve(script)
    target = rig.target(server.port)
    for _ in range(2):
        assert await rig.ask(target, bytes(30_000_000)) == b"early"
    assert server.connections == 2
