"""A fast fake provider: OpenAI's chat completions over HTTP/1.1, answered from prepared bytes.

The model name says what is wanted:

* ``bench``: a buffered answer of about 1 KB;
* ``bench-burst``: a stream, all chunks in one write;
* ``bench-paced``: a stream, one chunk every 20 ms;
* ``bench-hold``: a stream that stops after its first chunk until the client leaves.

Each content chunk holds the word `MARK` once, so that a client can count chunks whatever a gateway
did to the framing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
from typing import cast

import uvloop

MARK = b"lorem"
BURST_CHUNKS = 500
PACED_CHUNKS = 1000
PACED_INTERVAL_S = 0.02
HOLD_S = 120.0

_ID = "chatcmpl-B9MHDbslfkBeAs8l4bebGdFOJ6PeG"
_USAGE = {
    "prompt_tokens": 19,
    "completion_tokens": 500,
    "total_tokens": 519,
    "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
}
_STREAM = re.compile(rb'"stream":\s?true')
_USAGE_WANTED = re.compile(rb'"include_usage":\s?true')
_LENGTH = re.compile(rb"content-length:\s*(\d+)", re.IGNORECASE)
_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"cache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n"
)


def buffered_body() -> bytes:
    """A chat completion of about 1 KB."""
    text = " ".join(["lorem ipsum dolor sit amet"] * 18)
    message = {"role": "assistant", "content": text, "refusal": None, "annotations": []}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    return _json(
        {
            "id": _ID,
            "object": "chat.completion",
            "created": 1741569952,
            "model": "bench",
            "choices": [choice],
            "usage": _USAGE,
            "service_tier": "default",
            "system_fingerprint": "fp_44709d6fcb",
        }
    )


def _event(**fields: object) -> bytes:
    """One SSE event of about 250 bytes, in an HTTP chunk of its own."""
    chunk = {
        "id": _ID,
        "object": "chat.completion.chunk",
        "created": 1741569952,
        "model": "bench",
        "system_fingerprint": "fp_44709d6fcb",
    }
    return _chunked(b"data: " + _json(chunk | fields) + b"\n\n")


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _chunked(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _choice(delta: dict[str, str | None], finish: str | None = None) -> dict[str, object]:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    return {"choices": [choice]}


class Stream:
    """The prepared bytes of a stream; ``usage``: as OpenAI sends it when usage was asked for."""

    def __init__(self, usage: bool) -> None:
        unknown: dict[str, object] = {"usage": None} if usage else {}
        first = {"role": "assistant", "content": "", "refusal": None}
        self.opening = _STREAM_HEAD + _event(**_choice(first), **unknown)
        self.chunks = [
            _event(**_choice({"content": f" {MARK.decode()} {index}"}), **unknown)
            for index in range(PACED_CHUNKS)
        ]
        self.closing = _event(**_choice({}, "stop"), **unknown)
        if usage:
            self.closing += _event(choices=[], usage=_USAGE)
        self.closing += _chunked(b"data: [DONE]\n\n") + b"0\r\n\r\n"
        self.burst = self.opening + b"".join(self.chunks[:BURST_CHUNKS]) + self.closing


class Script:
    """The prepared bytes of every answer."""

    def __init__(self) -> None:
        body = buffered_body()
        self.buffered = (
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
            b"x-request-id: req_4f1c\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
        )
        self.plain = Stream(usage=False)
        self.with_usage = Stream(usage=True)


class Provider(asyncio.Protocol):
    """One connection. Requests come one after the other; pipelining is not expected."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._pending = b""
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        if self._pending:
            data = self._pending + data
        end = data.find(b"\r\n\r\n")
        if end >= 0 and self._complete(data, end):
            self._pending = b""
            self._answer(data, end)
        else:
            self._pending = data

    @staticmethod
    def _complete(data: bytes, end: int) -> bool:
        if found := _LENGTH.search(data, 0, end):
            return len(data) >= end + 4 + int(found[1])
        return data.endswith(b"\r\n0\r\n\r\n")

    def _answer(self, data: bytes, end: int) -> None:
        if not _STREAM.search(data, end):
            self._transport.write(self._script.buffered)
            return
        stream = self._script.with_usage if _USAGE_WANTED.search(data, end) else self._script.plain
        if data.find(b'bench-burst"', end) >= 0:
            self._transport.write(stream.burst)
        elif data.find(b'bench-paced"', end) >= 0:
            self._transport.write(stream.opening)
            # A random phase: streams of different clients do not tick together.
            self._at(self._loop.time() + random.random() * PACED_INTERVAL_S, 0, stream)
        else:
            self._transport.write(stream.opening + stream.chunks[0])
            self._timer = self._loop.call_later(HOLD_S, self._transport.close)

    def _at(self, due: float, index: int, stream: Stream) -> None:
        self._timer = self._loop.call_at(due, self._tick, due, index, stream)

    def _tick(self, due: float, index: int, stream: Stream) -> None:
        if index < PACED_CHUNKS:
            self._transport.write(stream.chunks[index])
            # From when it was due: the timer's milliseconds would add up.
            self._at(due + PACED_INTERVAL_S, index + 1, stream)
        else:
            self._transport.write(stream.closing)


async def serve(port: int) -> None:
    """Listen on loopback and print the port."""
    script = Script()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Provider(script), "127.0.0.1", port, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="a fast fake provider")
    parser.add_argument("--port", type=int, default=0)
    uvloop.run(serve(parser.parse_args().port))
