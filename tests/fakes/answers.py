"""What an OpenAI-format provider says, as bytes: heads, bodies, and streams with the field's quirks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import orjson

from tests.fakes.upstream import Step, fin, send

MODEL = "upstream-model-2026"
DONE = b"data: [DONE]\n\n"
USAGE: dict[str, Any] = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
_SHARED = {"id": "chatcmpl-fake", "created": 1_700_000_000, "model": MODEL}

Framing = Literal["chunked", "length", "close"]


def head(*headers: str, status: str = "200 OK") -> bytes:
    return "\r\n".join((f"HTTP/1.1 {status}", *headers, "", "")).encode("latin-1")


def answer(body: bytes, *headers: str, status: str = "200 OK", media: str = "application/json") -> bytes:
    """A whole answer with a content-length."""
    described = (f"content-type: {media}", f"content-length: {len(body)}")
    return head(*described, *headers, status=status) + body


def json_answer(native: Any, *headers: str, status: str = "200 OK") -> bytes:
    return answer(orjson.dumps(native), *headers, status=status)


def error_answer(status: str, code: str | None = None, message: str = "No.", kind: str = "e") -> bytes:
    return json_answer({"error": {"message": message, "type": kind, "code": code}}, status=status)


def chunked(blocks: Iterable[bytes], *, end: bool = True) -> bytes:
    """A body in transfer coding ``chunked``, one chunk for each block."""
    body = b"".join(b"%x\r\n%b\r\n" % (len(block), block) for block in blocks if block)
    return body + (b"0\r\n\r\n" if end else b"")


def stream(
    events: Sequence[bytes],
    *headers: str,
    size: int = 0,
    framing: Framing = "chunked",
    media: str = "text/event-stream",
    pause_s: float = 0.0,
) -> list[Step]:
    """The steps of a whole streamed answer. ``size``: of the pieces that all its bytes are cut into."""
    described = [f"content-type: {media}", *headers]
    if framing == "chunked":
        begin, blocks = (
            head(*described, "transfer-encoding: chunked"),
            [chunked([e], end=False) for e in events],
        )
        return [send(begin, *blocks, chunked([]), size=size, pause_s=pause_s)]
    if framing == "length":
        length = sum(map(len, events))
        return [send(head(*described, f"content-length: {length}"), *events, size=size, pause_s=pause_s)]
    return [send(head(*described, "connection: close"), *events, size=size, pause_s=pause_s), fin()]


def open_stream(*events: bytes) -> Step:
    """A streamed answer that has only begun."""
    begin = head("content-type: text/event-stream", "transfer-encoding: chunked")
    return send(begin, *(chunked([event], end=False) for event in events))


def event(native: Any) -> bytes:
    return b"data: %b\n\n" % orjson.dumps(native)


def chunk(delta: dict[str, Any] | None, *, index: int = 0, finish: str | None = None, **more: Any) -> bytes:
    """One chunk of a chat stream; ``delta`` None: no choices."""
    choices = [] if delta is None else [{"index": index, "delta": delta, "finish_reason": finish}]
    return event({**_SHARED, "object": "chat.completion.chunk", "choices": choices, **more})


def chat_stream(
    texts: Iterable[str],
    *,
    usage: Any = USAGE,
    null_usage: bool = False,
    azure: bool = False,
    finish: str | None = "stop",
    done: bool = True,
) -> list[bytes]:
    """``usage`` None: never sent. ``null_usage``: on every other chunk, as OpenAI does when asked for
    usage. ``azure``: a first chunk without choices. ``finish`` None: the stream never finishes."""
    more: dict[str, Any] = {"usage": None} if null_usage else {}
    events = [chunk(None, prompt_filter_results=[{"prompt_index": 0}], **more)] if azure else []
    events.append(chunk({"role": "assistant", "content": ""}, **more))
    events += [chunk({"content": text}, **more) for text in texts]
    if finish is not None:
        events.append(chunk({}, finish=finish, **more))
    if usage is not None:
        events.append(chunk(None, usage=usage))
    return events + ([DONE] if done else [])


def tool_start(call: int, id: str, name: str) -> bytes:
    function = {"name": name, "arguments": ""}
    return chunk({"tool_calls": [{"index": call, "id": id, "type": "function", "function": function}]})


def tool_args(call: int, arguments: str) -> bytes:
    return chunk({"tool_calls": [{"index": call, "function": {"arguments": arguments}}]})


def chat_body(*texts: str, finish: str = "stop", usage: Any = USAGE, **message: Any) -> dict[str, Any]:
    """A buffered chat completion with one choice for each text."""
    choices = [
        {
            "index": index,
            "message": {"role": "assistant", "content": text, **message},
            "finish_reason": finish,
        }
        for index, text in enumerate(texts or (None,))
    ]
    return {**_SHARED, "object": "chat.completion", "choices": choices, "usage": usage}


def completion_body(text: str) -> dict[str, Any]:
    choices = [{"index": 0, "text": text, "finish_reason": "stop", "logprobs": None}]
    return {**_SHARED, "id": "cmpl-fake", "object": "text_completion", "choices": choices, "usage": USAGE}


def embedding_body(*vectors: list[float]) -> dict[str, Any]:
    items = [{"object": "embedding", "index": i, "embedding": v} for i, v in enumerate(vectors)]
    return {
        "object": "list",
        "data": items,
        "model": MODEL,
        "usage": {"prompt_tokens": 5, "total_tokens": 5},
    }
