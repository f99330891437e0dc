"""A provider in this process: deterministic, steerable, and spoken to like any other.

It is a transport: it answers in the OpenAI wire format, in bytes, so that everything above it works
as it does with a real provider. A request may steer it by a ``simulate`` object in its body, with the
fields of ``Script``; nothing leaves the process.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson

from gateway.accounting.tokens import estimate_prompt
from gateway.errors import Sent, UpstreamError
from gateway.providers.transport import Target

_WORDS = """
    the gateway answers from a simulated model so that nothing has to be configured and nothing is sent
    anywhere while every limit cost header and metric works as it would with a real provider
    """.split()
_FIELDS: dict[str, type | tuple[type, ...]] = {
    "latency_s": (int, float),
    "chunk_s": (int, float),
    "words": int,
    "fail": str,
    "seed": int,
}


@dataclass(slots=True, frozen=True)
class Script:
    """``latency_s``: to the first byte; ``chunk_s``: between chunks; ``words``: one token each;
    ``fail``: refuse, error_500, rate_limit, hang, cut or invalid_json; ``seed``: another text."""

    latency_s: float = 0.0
    chunk_s: float = 0.0
    words: int = 16
    fail: str | None = None
    seed: int = 0

    def steered(self, fields: Any) -> Script:
        """This script with a request's own fields; what does not fit is left out."""
        if not isinstance(fields, dict):
            return self
        known: dict[str, Any] = {
            n: v for n, v in fields.items() if n in _FIELDS and isinstance(v, _FIELDS[n])
        }
        script = replace(self, **known)
        return replace(script, words=max(1, min(script.words, 100_000)))


class SimulatedTransport:
    """``open_calls``: calls that have not been closed."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self.open_calls = 0

    def call(
        self, target: Target, body: bytes, extra_headers: Sequence[tuple[bytes, bytes]] = ()
    ) -> SimulatedCall:
        return SimulatedCall(self, self._script, target, body)

    def close_idle(self, now: float) -> None:
        """There are no connections."""

    async def aclose(self) -> None:
        """There is nothing to close."""


class SimulatedCall:
    """One answer, written piece by piece as it is read."""

    __slots__ = (
        "_aborted",
        "_body",
        "_closed",
        "_pieces",
        "_script",
        "_target",
        "_transport",
        "asked",
        "headers",
        "status",
    )

    def __init__(self, transport: SimulatedTransport, script: Script, target: Target, body: bytes) -> None:
        self._transport = transport
        self._target = target
        native = orjson.loads(body)
        self._script = script.steered(native.get("simulate"))
        self._body: dict[str, Any] = native
        self._aborted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._closed = self.asked = False
        self._pieces: list[bytes] = []
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        transport.open_calls += 1

    async def open(self, connect_s: float, pool_s: float = 1.0) -> None:
        fail = self._script.fail
        if fail == "refuse":
            raise UpstreamError("The provider could not be reached.", sent=Sent.NEVER)
        self.asked = True
        await self._wait(1e6 if fail == "hang" else self._script.latency_s)
        self.status = {"error_500": 500, "rate_limit": 429}.get(fail or "", 200)
        streams = self._body.get("stream") is True and self.status == 200
        media = b"text/event-stream" if streams else b"application/json"
        self.headers = [(b"content-type", media)]
        self._pieces = _answer(self._target.path, self._body, self._script, self.status)

    def header(self, name: bytes) -> bytes | None:
        return next((value for known, value in self.headers if known == name), None)

    async def read(self) -> bytes:
        if self._aborted.done():
            self._aborted.result()
        if not self._pieces:
            return b""
        if len(self._pieces) == 1 and self._script.fail == "cut":
            raise UpstreamError("The provider's connection was reset.", sent=Sent.AMBIGUOUS)
        await self._wait(self._script.chunk_s)
        if self._script.chunk_s:
            return self._pieces.pop(0)
        whole, self._pieces = b"".join(self._pieces[:-1]), self._pieces[-1:]
        return whole or self._pieces.pop()

    async def read_all(self, cap: int) -> bytes:
        return b"".join(self._pieces)

    async def read_up_to(self, cap: int) -> bytes:
        return b"".join(self._pieces)[:cap]

    def abort(self, error: Exception | None = None) -> None:
        if not self._aborted.done():
            self._aborted.set_exception(error or UpstreamError("The call was closed."))
            self._aborted.exception()

    def finish(self) -> None:
        self.close()

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._transport.open_calls -= 1
            self.abort()

    async def _wait(self, seconds: float) -> None:
        if seconds > 0:
            await asyncio.wait([self._aborted], timeout=seconds)
        if self._aborted.done():
            self._aborted.result()


def _answer(path: str, body: dict[str, Any], script: Script, status: int) -> list[bytes]:
    if status != 200:
        kind = "rate_limit_error" if status == 429 else "server_error"
        return [orjson.dumps({"error": {"message": "Simulated failure.", "type": kind, "code": None}})]
    if script.fail == "invalid_json":
        return [b'{"choices": [']
    if path.endswith("/embeddings"):
        return [orjson.dumps(_embeddings(body, script))]
    words = _text(body, script)
    if body.get("stream") is True:
        return _chunks(path, body, words)
    return [orjson.dumps(_completion(path, body, words))]


def _text(body: dict[str, Any], script: Script) -> list[str]:
    """The words of an answer; behind a begun one (a last message of the assistant) those that are left,
    with an empty one for the space before them."""
    cap = body.get("max_completion_tokens") or body.get("max_tokens") or script.words
    start = script.seed % len(_WORDS)
    words = [_WORDS[(start + i) % len(_WORDS)] for i in range(script.words)]
    whole, begun = " ".join(words), _begun(body)
    if begun and whole.startswith(begun):
        words = whole[len(begun) :].split(" ")
    return words[: cap + (words[0] == "")]


def _begun(body: dict[str, Any]) -> str:
    last = (body.get("messages") or [{}])[-1]
    content = last.get("content")
    return content if last.get("role") == "assistant" and isinstance(content, str) else ""


def _count(words: list[str]) -> int:
    return sum(map(bool, words))


def _shared(body: dict[str, Any], kind: str) -> dict[str, Any]:
    digest = hashlib.sha256(orjson.dumps(body)).hexdigest()
    return {
        "id": f"sim-{digest[:24]}",
        "object": kind,
        "created": 1_700_000_000,
        "model": body.get("model"),
    }


def _usage(body: dict[str, Any], output: int) -> dict[str, int]:
    prompt = estimate_prompt(body)
    return {"prompt_tokens": prompt, "completion_tokens": output, "total_tokens": prompt + output}


def _completion(path: str, body: dict[str, Any], words: list[str]) -> dict[str, Any]:
    text = " ".join(words)
    chat = path.endswith("/chat/completions")
    choices: list[dict[str, Any]] = []
    for index in range(body.get("n") or 1):
        said = {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
        choices.append({"index": index, **said, "finish_reason": "stop"})
    native = _shared(body, "chat.completion" if chat else "text_completion")
    return {**native, "choices": choices, "usage": _usage(body, _count(words) * len(choices))}


def _chunks(path: str, body: dict[str, Any], words: list[str]) -> list[bytes]:
    chat = path.endswith("/chat/completions")
    shared = _shared(body, "chat.completion.chunk" if chat else "text_completion")
    count = body.get("n") or 1

    def event(choice: dict[str, Any]) -> bytes:
        return b"data: %b\n\n" % orjson.dumps({**shared, "choices": [choice]})

    pieces = []
    for index in range(count):
        for position, word in enumerate(words):
            text = word if position == 0 else " " + word
            first = {"role": "assistant"} if position == 0 else {}
            said = {"delta": {**first, "content": text}} if chat else {"text": text}
            pieces.append(event({"index": index, **said, "finish_reason": None}))
        end: dict[str, Any] = {"delta": {}} if chat else {"text": ""}
        pieces.append(event({"index": index, **end, "finish_reason": "stop"}))
    if (body.get("stream_options") or {}).get("include_usage"):
        native = {**shared, "choices": [], "usage": _usage(body, _count(words) * count)}
        pieces.append(b"data: %b\n\n" % orjson.dumps(native))
    return [*pieces, b"data: [DONE]\n\n"]


def _embeddings(body: dict[str, Any], script: Script) -> dict[str, Any]:
    inputs = body.get("input")
    count = len(inputs) if isinstance(inputs, list) and inputs and not isinstance(inputs[0], int) else 1
    width = body.get("dimensions") or 8
    vector = [round(((i * 37 + script.seed) % 101) / 101 - 0.5, 6) for i in range(width)]
    usage = _usage(body, 0)
    return {
        "object": "list",
        "model": body.get("model"),
        "data": [{"object": "embedding", "index": i, "embedding": vector} for i in range(count)],
        "usage": {"prompt_tokens": usage["prompt_tokens"], "total_tokens": usage["prompt_tokens"]},
    }
