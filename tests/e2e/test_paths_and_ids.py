"""Paths and methods that are not there, and ids that clients choose."""

from __future__ import annotations

import re

import pytest

from tests.e2e.refusals import assert_refused
from tests.e2e.rig import CHAT, Gateway, chat
from tests.fakes import answers
from tests.fakes.answers import chat_stream, json_answer, stream
from tests.fakes.client import request
from tests.fakes.upstream import Upstream, send

pytestmark = pytest.mark.asyncio(loop_scope="module")

OK = json_answer(answers.chat_body("fine"))
OURS = re.compile(r"req_[0-9a-f]{32}")
PATHS = {
    CHAT: 405,
    f"{CHAT}/": 404,
    "/v1/chat": 404,
    "/v1": 404,
    "/v1/": 404,
    "/v1//chat/completions": 404,
    "/v1/../v1/chat/completions": 404,
    "/v1/chat/completions%00": 404,
    "/v1/chat/completions%2f": 404,
    "/v1/CHAT/completions": 404,
    "/v1/chat;x=1/completions": 404,
    "/v1/%63hat/completions": 405,
    "/%76%31/chat/completions": 405,
    "/v1/%2563hat/completions": 404,
    "/v1/%ff": 404,
    "/v1/%ff%0d%0ax-evil:1": 404,
}


@pytest.mark.parametrize("path", PATHS)
async def test_other_methods_and_paths(gateway: Gateway, path: str) -> None:
    codes = {404: "not_found", 405: "method_not_allowed"}
    for method in ("GET", "OPTIONS", "DELETE", "PUT", "PATCH", "TRACE", "PROPFIND"):
        got = await gateway.ask(path, method=method)
        assert_refused(got, PATHS[path], codes[PATHS[path]])
        assert_refused(await gateway.ask(path, method=method, key=None), 401, "invalid_api_key")
    async with gateway.client() as client:
        await client.send(request(path, key=gateway.key, method="HEAD"))
        head = await client.read_head()
        assert head.status == PATHS[path] and int(head.header("content-length") or 0) > 0
        await client.send(request("/v1/models", key=gateway.key))
        assert (await client.read()).status == 200


async def test_an_encoded_path_is_the_same_path(gateway: Gateway, upstream: Upstream) -> None:
    upstream.next(send(OK))
    assert (await gateway.ask("/v1/%63hat/completions", chat())).status == 200
    assert upstream.last.path == "/v1/chat/completions"
    assert_refused(await gateway.ask("/v1/%63hat/completions", chat(), key=None), 401, "invalid_api_key")


ECHOED = ("a", "req-1", "A.b_c-9", "0" * 128, "req_" + "f" * 32)
REPLACED = (
    "",
    "x" * 129,
    "a b",
    "a;b",
    "<script>",
    "é",
    "\xff\xfe",
    "a\tb",
    "a,b",
    "a/b",
    "{}",
    "'",
    "%0d%0a",
)


@pytest.mark.parametrize("asked", [*ECHOED, *REPLACED])
async def test_only_a_harmless_request_id_is_taken(
    gateway: Gateway, upstream: Upstream, asked: str
) -> None:
    upstream.next(send(OK))
    upstream.next(*stream(chat_stream(["one "])))
    sent = [asked[:-1] + last for last in "abcd"] if asked in ECHOED else [asked] * 4
    headers = [{"x-request-id": one} for one in sent]
    told = [
        await gateway.chat(headers=headers[0]),
        await gateway.chat(headers=headers[1], stream=True),
        await gateway.chat(headers=headers[2], n=0),
        await gateway.ask("/v1/models", headers=headers[3], key=None),
    ]
    assert [answer.status for answer in told] == [200, 200, 400, 401]
    ids = [answer.header("x-request-id") or "" for answer in told]
    if asked in ECHOED:
        assert ids == sent
    else:
        assert len(set(ids)) == 4 and all(OURS.fullmatch(one) for one in ids)
    assert told[2].json()["error"]["request_id"] == ids[2]


async def test_a_request_id_that_breaks_the_line_is_another_header(gateway: Gateway) -> None:
    got = await gateway.ask("/v1/models", headers={"x-request-id": "e\r\nx-evil: 1"})
    assert got.header("x-request-id") == "e" and got.header("x-evil") is None
    for value in ("a\rb", "a\nb", "a\x00b"):
        got = await gateway.ask("/v1/models", headers={"x-request-id": value})
        assert_refused(got, 400, "invalid_request")
    got = await gateway.ask("/v1/models", headers={"x-request-id": "x" * 10_240})
    assert_refused(got, 431, "headers_too_large")


@pytest.mark.parametrize(
    "value", ["", "\xff", "00-x", "é" * 4_000, "00-" + "0" * 32 + "-" + "0" * 16 + "-00"]
)
async def test_a_strange_trace_does_no_harm(gateway: Gateway, value: str) -> None:
    headers = {"traceparent": value, "tracestate": value, "baggage": value, "x-trace": value}
    got = await gateway.ask("/v1/models", headers=headers if len(value) < 100 else {"traceparent": value})
    assert got.status == 200
    assert got.header("traceparent") is None
