"""What only the httpx engine does: proxies, HTTP/2."""

from __future__ import annotations

import asyncio
import base64
import random
from pathlib import Path
from typing import Literal

import h2.config
import h2.connection
import h2.events
import pytest

from gateway.errors import Sent, UpstreamError
from tests.contract.rawserver import Peer, answer, replying
from tests.contract.transport_rig import Rig, httpx_only, tls_server, until


@httpx_only
async def test_a_proxy_for_http_gets_the_absolute_form(rig: Rig) -> None:
    server = await rig.serve(replying(answer(b"by proxy")))
    proxy = f"http://user:secret@127.0.0.1:{server.port}"
    target = rig.target(80, host="upstream.invalid", proxy=proxy)
    assert [await rig.ask(target), await rig.ask(target)] == [b"by proxy"] * 2
    request = server.requests[0]
    assert request.line == "POST http://upstream.invalid/v1/chat?v=1 HTTP/1.1"
    assert request.header("host") == "upstream.invalid"
    credentials = base64.b64encode(b"user:secret").decode()
    assert request.header("proxy-authorization") == f"Basic {credentials}"
    assert server.connections == 1


def _tunnel(seen: list[bytes]) -> object:
    async def script(peer: Peer) -> None:
        request = await peer.head()
        assert request is not None
        seen.append(request)
        port = int(request.split(b" ")[1].rpartition(b":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await peer.send(b"HTTP/1.1 200 Connected\r\n\r\n")
        await asyncio.gather(_copy(peer.reader, writer), _copy(reader, peer.writer))

    return script


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while block := await reader.read(65536):
            writer.write(block)
    except ConnectionError:
        pass
    finally:
        writer.close()


@httpx_only
async def test_a_proxy_for_https_is_a_tunnel(rig: Rig, tmp_path: Path) -> None:
    context, ca_file = tls_server(tmp_path)
    server = await rig.serve(replying(answer(b"through")), tls=context)
    seen: list[bytes] = []
    proxy = await rig.serve(_tunnel(seen))  # type: ignore[arg-type]
    options = {"scheme": "https", "host": "localhost", "ca_file": ca_file}
    target = rig.target(server.port, proxy=f"http://127.0.0.1:{proxy.port}", **options)
    assert [await rig.ask(target), await rig.ask(target)] == [b"through"] * 2
    assert len(seen) == 1
    assert seen[0].startswith(b"CONNECT localhost:")
    assert (server.connections, proxy.connections) == (1, 1)


@pytest.mark.parametrize("status", ["407 Proxy Authentication Required", "502 Bad Gateway"])
@httpx_only
async def test_a_proxy_that_refuses_the_tunnel(rig: Rig, status: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(answer(b"no", status=status))

    proxy = await rig.serve(script)
    url = f"http://127.0.0.1:{proxy.port}"
    error = await rig.fails(rig.target(443, scheme="https", host="up.invalid", proxy=url))
    assert error.sent is Sent.NEVER


class Http2Server:
    """Answers each stream with its own body; ``hold`` keeps back the bodies, or the heads too."""

    def __init__(self, *, hold: Literal["nothing", "bodies", "heads"] = "nothing") -> None:
        self.hold = hold
        self.heads: list[dict[bytes, bytes]] = []
        self.open_streams: set[int] = set()

    async def script(self, peer: Peer) -> None:
        config = h2.config.H2Configuration(client_side=False, header_encoding=None)
        state = h2.connection.H2Connection(config)
        state.initiate_connection()
        await peer.send(state.data_to_send())
        bodies: dict[int, bytes] = {}
        while block := await peer.reader.read(65536):
            for event in state.receive_data(block):
                self._react(state, bodies, event)
            await peer.send(state.data_to_send())

    def _react(
        self,
        state: h2.connection.H2Connection,
        bodies: dict[int, bytes],
        event: h2.events.Event,
    ) -> None:
        if isinstance(event, h2.events.RequestReceived):
            self.heads.append(dict(event.headers))
            bodies[event.stream_id] = b""
            self.open_streams.add(event.stream_id)
        elif isinstance(event, h2.events.DataReceived):
            bodies[event.stream_id] += event.data
            state.acknowledge_received_data(len(event.data), event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            self.answer(state, event.stream_id, bodies[event.stream_id])
        elif isinstance(event, h2.events.StreamReset):
            self.open_streams.discard(event.stream_id)

    def answer(self, state: h2.connection.H2Connection, stream_id: int, body: bytes) -> None:
        if self.hold != "heads":
            state.send_headers(stream_id, [(":status", "200"), ("x-a", "b")])
        if self.hold == "nothing":
            state.send_data(stream_id, body, end_stream=True)
            self.open_streams.discard(stream_id)


@httpx_only
async def test_http2_carries_many_calls_at_once(rig: Rig, tmp_path: Path) -> None:
    context, ca_file = tls_server(tmp_path, "h2")
    answers = Http2Server()
    server = await rig.serve(answers.script, tls=context)
    options = {"scheme": "https", "host": "localhost", "ca_file": ca_file, "http2": True}
    target = rig.target(server.port, **options)
    bodies = [b"body %d" % n for n in range(20)]
    assert await rig.ask(target, b"first") == b"first"
    assert await asyncio.gather(*(rig.ask(target, body) for body in bodies)) == bodies
    assert server.connections == 1
    assert answers.heads[0][b":path"] == b"/v1/chat?v=1"
    assert answers.heads[0][b"accept-encoding"] == b"identity"


@httpx_only
async def test_http2_abort_resets_its_stream_alone(rig: Rig, tmp_path: Path) -> None:
    context, ca_file = tls_server(tmp_path, "h2")
    answers = Http2Server(hold="bodies")
    server = await rig.serve(answers.script, tls=context)
    options = {"scheme": "https", "host": "localhost", "ca_file": ca_file, "http2": True}
    target = rig.target(server.port, **options)
    kept, left = rig.transport.call(target, b"kept"), rig.transport.call(target, b"left")
    await kept.open(1.0)
    await left.open(1.0)
    assert len(answers.open_streams) == 2
    left.close()
    await until(lambda: len(answers.open_streams) == 1)
    assert server.open_connections == 1
    with pytest.raises(UpstreamError):
        await left.read()
    kept.close()
    await until(lambda: not answers.open_streams)


@pytest.mark.parametrize("cancel", [False, True])
@httpx_only
async def test_http2_abort_before_the_head_resets_its_stream(
    rig: Rig, tmp_path: Path, cancel: bool
) -> None:
    context, ca_file = tls_server(tmp_path, "h2")
    answers = Http2Server(hold="heads")
    server = await rig.serve(answers.script, tls=context)
    options = {"scheme": "https", "host": "localhost", "ca_file": ca_file, "http2": True}
    target = rig.target(server.port, **options)
    call = rig.transport.call(target, b"left")
    opening = asyncio.get_running_loop().create_task(call.open(1.0))
    await until(lambda: len(answers.open_streams) == 1)
    opening.cancel() if cancel else call.abort()
    with pytest.raises(asyncio.CancelledError if cancel else UpstreamError):
        await opening
    await until(lambda: not answers.open_streams)
    answers.hold = "nothing"
    assert await rig.ask(target, b"next") == b"next"
    assert server.connections == 1


@httpx_only
async def test_http2_finish_leaves_the_connection(rig: Rig, tmp_path: Path) -> None:
    context, ca_file = tls_server(tmp_path, "h2")
    answers = Http2Server(hold="bodies")
    server = await rig.serve(answers.script, tls=context)
    options = {"scheme": "https", "host": "localhost", "ca_file": ca_file, "http2": True}
    target = rig.target(server.port, **options)
    for _ in range(3):
        call = rig.transport.call(target, b"")
        await call.open(1.0)
        call.finish()
        await until(lambda: not answers.open_streams)
    assert server.connections == 1


@httpx_only
async def test_http2_ended_anywhere_harms_no_other(rig: Rig, tmp_path: Path) -> None:
    context, ca_file = tls_server(tmp_path, "h2")
    answers = Http2Server()
    server = await rig.serve(answers.script, tls=context)
    options = {"scheme": "https", "host": "localhost", "ca_file": ca_file, "http2": True}
    target = rig.target(server.port, **options)
    await rig.ask(target, b"first")
    chance = random.Random(2)

    async def leave(turns: int) -> None:
        call = rig.transport.call(target, b"left" * 100)
        opening = asyncio.get_running_loop().create_task(call.open(2.0))
        for _ in range(turns):
            await asyncio.sleep(0)
        call.abort()
        await asyncio.wait([opening])
        assert opening.exception() is None or isinstance(opening.exception(), UpstreamError)

    for number in range(60):
        kept = asyncio.gather(*(rig.ask(target, b"%d" % n) for n in range(4)))
        await asyncio.gather(*(leave(chance.randint(0, 60)) for _ in range(4)))
        assert await kept == [b"%d" % n for n in range(4)], number
    assert server.connections == 1
    await until(lambda: not answers.open_streams)
