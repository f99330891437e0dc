"""Answers that are none: each becomes one clear error, and nothing of them leaks."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.e2e.rig import Gateway, group
from tests.fakes import answers
from tests.fakes.answers import answer, error_answer, head, json_answer
from tests.fakes.upstream import SIZES, Step, Upstream, fin, flood, hang, reset, send, wait

pytestmark = pytest.mark.asyncio(loop_scope="module")

OK = json_answer(answers.chat_body("fine"))
INVALID = (502, "upstream_invalid_response")
FAILED = (502, "upstream_error")
NOT_STALE_S = 1.1
"""A kept connection that ends sooner after a request is taken for one that had been given up before."""


@pytest.fixture(scope="module")
def nobody() -> Any:
    """An address where nobody listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


@pytest.fixture(scope="module")
def changes(nobody: int) -> dict[str, Any]:
    return {
        "providers": {"nobody": {"kind": "openai", "base_url": f"http://127.0.0.1:{nobody}/v1"}},
        "models": {"small": group(response_cap_bytes=1 << 20), "refusing": group("nobody")},
    }


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def elsewhere() -> AsyncIterator[Upstream]:
    async with Upstream() as running:
        yield running


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("block", "expected"),
    [
        (answer(b"<h1>Bad gateway</h1>", status="502 Bad Gateway", media="text/html"), FAILED),
        (answer(b"<h1>Welcome</h1>", media="text/html"), INVALID),
        (json_answer({"error": {"message": "boom", "type": "server_error"}}), FAILED),
        (json_answer({"error": "boom"}), FAILED),
        (
            json_answer({"error": {"type": "rate_limit_error", "message": "x"}}),
            (429, "upstream_rate_limited"),
        ),
        (answer(b""), INVALID),
        (answer(b"null"), INVALID),
        (answer(b"[]"), INVALID),
        (answer(b"{}"), INVALID),
        (answer(b'"text"'), INVALID),
        (answer(OK.partition(b"\r\n\r\n")[2][:-20]), INVALID),
        (answer(OK, "content-encoding: gzip"), INVALID),
        (answer(OK, "content-encoding: snappy"), INVALID),
        (error_answer("500 Internal Server Error"), FAILED),
        (error_answer("503 Service Unavailable"), (503, "overloaded")),
        (error_answer("529 Overloaded", kind="overloaded_error"), (503, "overloaded")),
        (error_answer("504 Gateway Timeout"), (504, "upstream_timeout")),
        (error_answer("429 Too Many Requests"), (429, "upstream_rate_limited")),
        (error_answer("404 Not Found", code="model_not_found"), FAILED),
        (error_answer("418 I'm a teapot"), FAILED),
        (error_answer("400 Bad Request", code="context_length_exceeded"), (400, "context_length_exceeded")),
        (error_answer("400 Bad Request", code="content_filter"), (400, "content_filter")),
        (error_answer("422 Unprocessable Entity"), (400, "invalid_request")),
        (error_answer("401 Unauthorized", code="invalid_api_key"), (502, "upstream_auth_error")),
        (error_answer("403 Forbidden"), (502, "upstream_auth_error")),
    ],
    ids=lambda value: value[9:40].decode("latin-1") if isinstance(value, bytes) else value[1],
)
async def test_an_answer_that_is_none(
    gateway: Gateway, upstream: Upstream, block: bytes, expected: tuple[int, str], stream: bool
) -> None:
    upstream.next(send(block))
    got = await gateway.chat(stream=stream)
    assert (got.status, got.code) == expected
    assert got.header("content-type") == "application/json"
    assert b"<h1>" not in got.body
    row = await gateway.row(got.header("x-request-id") or "")
    assert (row["outcome"], row["error_code"]) == ("error", expected[1])
    if got.status in (429, 503):
        assert int(got.header("retry-after") or 0) >= 1


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    "steps",
    [
        (wait(NOT_STALE_S), fin()),
        (wait(NOT_STALE_S), reset()),
        (send(b"HTTP/1.1 200 O"), fin()),
        (send(b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n{"), fin()),
        (send(b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n{"), reset()),
    ],
    ids=["fin", "reset", "half-head", "short-body", "reset-body"],
)
async def test_a_connection_that_ends_too_early(
    gateway: Gateway, upstream: Upstream, steps: tuple[Step, ...], stream: bool
) -> None:
    upstream.next(*steps)
    got = await gateway.chat(stream=stream)
    assert (got.status, got.code) == FAILED


@pytest.mark.parametrize("block", [b"garbage\r\n\r\n", b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 abc\r\n\r\n"])
async def test_what_is_not_http(gateway: Gateway, upstream: Upstream, block: bytes) -> None:
    upstream.next(send(block), hang())
    got = await gateway.chat()
    assert got.status == 502
    await upstream.last.left(1.0)


async def test_nobody_listens(gateway: Gateway) -> None:
    got = await gateway.chat(model="refusing")
    assert (got.status, got.code) == FAILED
    row = await gateway.row(got.header("x-request-id") or "")
    assert row["cost_usd"] == "0.000000000"


@pytest.mark.parametrize("status", ["400 Bad Request", "500 Internal Server Error"])
async def test_a_huge_error_body_is_not_read(gateway: Gateway, upstream: Upstream, status: str) -> None:
    huge = head("content-type: application/json", f"content-length: {200 << 20}", status=status)
    upstream.next(send(huge, b'{"error":{"message":"'), flood(b"x" * 65536, 3200), hang())
    got = await gateway.chat()
    assert got.status == (400 if status.startswith("400") else 502)
    await upstream.last.left(1.0)
    assert upstream.last.connection.sent < 32 << 20  # what sockets buffer, far from what was offered


@pytest.mark.parametrize("stream", [True, False])
async def test_an_endless_body_meets_the_cap(gateway: Gateway, upstream: Upstream, stream: bool) -> None:
    begin = head("content-type: application/json", "connection: close")
    upstream.next(send(begin, b'{"choices":["'), flood(b"x" * 65536, 3200), hang())
    got = await gateway.chat(model="small", stream=stream)
    assert (got.status, got.code) == INVALID
    await upstream.last.left(1.0)
    assert upstream.last.connection.sent < 32 << 20


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(
    gateway: Gateway, upstream: Upstream, elsewhere: Upstream, status: int
) -> None:
    location = f"location: {elsewhere.url}/v1/chat/completions"
    upstream.next(send(answer(b"", location, status=f"{status} Elsewhere")))
    got = await gateway.chat()
    assert (got.status, got.code) == FAILED
    assert got.header("location") is None
    assert elsewhere.connections == []


@pytest.mark.parametrize("size", SIZES)
async def test_interim_answers_are_skipped(gateway: Gateway, upstream: Upstream, size: int) -> None:
    hints = head("link: </x>; rel=preload", status="103 Early Hints")
    upstream.next(send(head(status="100 Continue"), hints, hints, OK, size=size))
    got = await gateway.chat()
    assert got.status == 200
    assert got.json() == answers.chat_body("fine")
    assert got.header("link") is None


async def test_what_the_provider_says_of_our_key_is_not_shown(gateway: Gateway, upstream: Upstream) -> None:
    said = f"Incorrect API key provided: {gateway.provider_key}, sk-proj-abcdef123456."
    upstream.next(send(error_answer("401 Unauthorized", "invalid_api_key", said)))
    got = await gateway.chat()
    assert (got.status, got.code) == (502, "upstream_auth_error")
    assert b"sk-" not in got.body and b"Incorrect" not in got.body
    assert got.header("x-should-retry") == "false"


async def test_a_key_in_a_rejection_is_cut_out(gateway: Gateway, upstream: Upstream) -> None:
    said = f"Cannot use {gateway.provider_key} at https://internal.example/v1 for 'temperature'."
    upstream.next(send(error_answer("400 Bad Request", "invalid_value", said)))
    got = await gateway.chat()
    assert got.status == 400
    assert b"sk-" not in got.body and b"internal.example" not in got.body
    assert b"temperature" in got.body


async def test_response_headers_pass_by_allow_list_only(gateway: Gateway, upstream: Upstream) -> None:
    upstream.next(
        send(
            json_answer(
                answers.chat_body("fine"),
                "set-cookie: session=1",
                "server: upstream-server",
                "openai-organization: org-secret",
                "x-goog-api-key: goog",
                "x-request-id: req-of-upstream",
                "x-ratelimit-remaining-requests: 3",
                "access-control-allow-origin: *",
                "alt-svc: h3",
                "x-anything: 1",
            )
        )
    )
    got = await gateway.chat()
    assert got.status == 200
    names = {name for name, _ in got.headers}
    allowed = {"content-type", "content-length", "x-request-id", "server-timing", "date", "connection"}
    assert {name for name in names - allowed if not name.startswith("x-gateway-")} == set()
    assert got.header("x-request-id") != "req-of-upstream"
    assert got.header("x-gateway-model") == "chat"
    assert got.header("x-gateway-attempts") == "1"


async def test_request_headers_stay_here(gateway: Gateway, upstream: Upstream) -> None:
    sent = {
        "cookie": "session=client",
        "x-forwarded-for": "10.0.0.1",
        "x-forwarded-host": "evil.example",
        "forwarded": "for=10.0.0.1",
        "x-real-ip": "10.0.0.1",
        "proxy-authorization": "Basic eDp5",
        "x-gateway-feature": "search",
        "te": "trailers",
        "openai-organization": "org-client",
    }
    upstream.next(send(OK))
    assert (await gateway.chat(headers=sent)).status == 200
    seen = upstream.last
    assert seen.header("authorization") == f"Bearer {gateway.provider_key}"
    known = {"host", "authorization", "content-type", "content-length", "accept", "user-agent"}
    known |= {"accept-encoding", "connection"}
    assert {name for name, _ in seen.headers} <= known
    assert seen.header("host") == f"127.0.0.1:{upstream.port}"
    assert gateway.key.encode() not in seen.body
    assert seen.path == "/v1/chat/completions"
    assert seen.json()["model"] == "upstream-model"
