"""Everything that a provider may do instead of answering, by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tests.fakes.answers import (
    DONE,
    answer,
    chat_body,
    chat_stream,
    chunk,
    chunked,
    event,
    head,
    json_answer,
    open_stream,
    stream,
)
from tests.fakes.upstream import Step, fin, flood, hang, reset, send, wait

Moment = Literal["before", "content", "request"]

NOT_STALE_S = 0.35
"""A kept connection that ends sooner after a request is taken for one that had been given up before."""
ROLE = chunk({"role": "assistant", "content": ""})
BEGUN = [ROLE, chunk({"content": "one "}), chunk({"content": "two"})]
FAULT = event({"error": {"message": "engine died", "type": "server_error"}})
COMMENT = chunked([b": keep-alive\n\n"], end=False)


@dataclass(frozen=True)
class Fault:
    """``steps``: what each call gets; none where ``provider`` cannot be reached at all. ``moment``:
    before any content, after content (of a stream), or the request's own fault: what decides whether
    somebody else may answer."""

    name: str
    steps: Sequence[Step] = ()
    moment: Moment = "before"
    provider: str = "fake"


def _refusal(status: str, code: str | None = None, *headers: str, moment: Moment = "before") -> Fault:
    body = {"error": {"message": "No.", "type": "e", "code": code}}
    name = " ".join((status[:3], code or "", *(one.partition(":")[0] for one in headers)))
    return Fault(" ".join(name.split()), (send(json_answer(body, *headers, status=status)),), moment)


def _json(name: str, body: bytes, *headers: str) -> Fault:
    return Fault(name, (send(answer(body, *headers)),))


def _begun(name: str, *steps: Step) -> Fault:
    return Fault(f"content, then {name}", (open_stream(*BEGUN), *steps), "content")


UNREACHABLE = tuple(
    Fault(name, provider=name) for name in ("refusing", "unknown-host", "no-tls", "black-hole")
)
SILENT = (
    Fault("takes it, says nothing", (hang(),)),
    Fault("takes it, FIN", (wait(NOT_STALE_S), fin())),
    Fault("takes it, RST", (wait(NOT_STALE_S), reset())),
    Fault("half a head, FIN", (send(b"HTTP/1.1 200 O"), fin())),
    Fault("half a head, silence", (send(b"HTTP/1.1 200 O"), hang())),
    Fault("no HTTP", (send(b"SSH-2.0-OpenSSH_9.2\r\n"), hang())),
    Fault("endless head", (send(b"HTTP/1.1 200 OK\r\n"), flood(b"x: y\r\n" * 1000, 100), hang())),
)
REFUSALS = (
    _refusal("400 Bad Request", moment="request"),
    _refusal("400 Bad Request", "context_length_exceeded", moment="request"),
    _refusal("400 Bad Request", "content_filter", moment="request"),
    _refusal("413 Payload Too Large", moment="request"),
    _refusal("422 Unprocessable Entity", moment="request"),
    _refusal("401 Unauthorized", "invalid_api_key"),
    _refusal("403 Forbidden"),
    _refusal("404 Not Found", "model_not_found"),
    _refusal("408 Request Timeout"),
    _refusal("418 I'm a teapot"),
    _refusal("429 Too Many Requests"),
    _refusal("429 Too Many Requests", None, "retry-after: 3600"),
    _refusal("429 Too Many Requests", "insufficient_quota"),
    _refusal("402 Payment Required"),
    _refusal("500 Internal Server Error"),
    _refusal("502 Bad Gateway"),
    _refusal("503 Service Unavailable"),
    _refusal("504 Gateway Timeout"),
    _refusal("529 Overloaded"),
    _refusal("302 Found", None, "location: http://127.0.0.1:9/"),
    Fault("502 as HTML", (send(answer(b"<h1>No</h1>", status="502 Bad Gateway", media="text/html")),)),
    Fault(
        "500 of 200 MB",
        (
            send(head("content-length: 200000000", status="500 Internal Server Error")),
            flood(b"x" * 65536, 3000),
            hang(),
        ),
    ),
)
NO_ANSWERS = (
    _json("200, nothing", b""),
    _json("200, null", b"null"),
    _json("200, array", b"[]"),
    _json("200, cut JSON", b'{"choices":[{"index":0,"mess'),
    _json("200, error object", b'{"error":{"message":"boom","type":"server_error"}}'),
    _json("200, called gzip", b'{"choices":[]}', "content-encoding: gzip"),
    _json("200, unknown coding", b"\x01\x02", "content-encoding: snappy"),
    Fault("200, HTML", (send(answer(b"<h1>Welcome</h1>", media="text/html")),)),
    Fault("200, short body", (send(head("content-length: 50"), b'{"choices":'), fin())),
    Fault("200, RST in body", (send(head("content-length: 50"), b'{"choices":'), wait(0.05), reset())),
    Fault("200, stall in body", (send(head("content-length: 50"), b'{"choices":'), hang())),
    Fault(
        "200, endless body",
        (send(head("content-type: application/json")), flood(b"x" * 65536, 1000), hang()),
    ),
)
STREAMS = (
    Fault("SSE, FIN", (open_stream(), fin())),
    Fault("SSE, stall", (open_stream(), hang())),
    Fault("SSE, comments only", (open_stream(), flood(COMMENT, 60, 0.05), hang())),
    Fault("SSE, [DONE] only", stream([DONE])),
    Fault("SSE, no JSON", stream([b"data: {nonsense\n\n"])),
    Fault("SSE, error first", stream([FAULT])),
    Fault("role, FIN", (open_stream(ROLE), fin())),
    Fault("role, RST", (open_stream(ROLE), wait(0.05), reset())),
    Fault("role, stall", (open_stream(ROLE), hang())),
    Fault("role, error", stream([ROLE, FAULT, DONE])),
    Fault("role, bad chunk", (open_stream(ROLE), wait(0.02), send(b"zz\r\n"), hang())),
)
BROKEN_OFF = (
    _begun("FIN", fin()),
    _begun("RST", wait(0.05), reset()),
    _begun("stall", hang()),
    _begun("comments only", flood(COMMENT, 60, 0.05), hang()),
    _begun("error", wait(0.02), send(chunked([FAULT, DONE]))),
    _begun("[DONE], unfinished", wait(0.02), send(chunked([DONE]))),
    _begun("clean end, unfinished", wait(0.02), send(b"0\r\n\r\n")),
    _begun("finish abort", wait(0.02), send(chunked([chunk({}, finish="abort"), DONE]))),
    _begun("bad chunk", wait(0.02), send(b"zz\r\n"), hang()),
    _begun("no JSON", wait(0.02), send(chunked([b'data: {"finish_reason": tr\n\n']))),
    _begun("endless event", wait(0.02), send(b"fffffff\r\ndata: "), flood(b"x" * 65536, 1000), hang()),
)
FAULTS = (*UNREACHABLE, *SILENT, *REFUSALS, *NO_ANSWERS, *STREAMS, *BROKEN_OFF)

GOOD_TEXT = "a good answer"


def good(stream_asked: bool) -> Sequence[Step]:
    return stream(chat_stream([GOOD_TEXT])) if stream_asked else (send(json_answer(chat_body(GOOD_TEXT))),)
