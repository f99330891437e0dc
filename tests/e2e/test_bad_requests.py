"""Bodies that are wrong or hostile: refused by name, before anything is spent on them."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from tests.e2e.refusals import assert_refused
from tests.e2e.rig import CHAT, Gateway, chat
from tests.fakes import answers
from tests.fakes.answers import json_answer
from tests.fakes.upstream import Upstream, send

pytestmark = pytest.mark.asyncio(loop_scope="module")

OK = json_answer(answers.chat_body("fine"))
INVALID = (400, "invalid_request")
MESSAGE = {"role": "user", "content": "x"}
TEXT = orjson.dumps(chat()).decode()


def _with(raw: str) -> bytes:
    """A good body with one more member, as it is written."""
    return (TEXT[:-1] + "," + raw + "}").encode()


def _nested(depth: int) -> str:
    return '"x":' + "[" * depth + "]" * depth


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{",
        b"null",
        b"[]",
        b'"text"',
        b"7",
        TEXT[:-1].encode(),
        (TEXT + "x").encode(),
        (TEXT + TEXT).encode(),
        TEXT.replace('"', "'").encode(),
        b"\xef\xbb\xbf" + TEXT.encode(),
        TEXT.encode("utf-16"),
        TEXT.encode("utf-16-le"),
        TEXT.encode("utf-32"),
        TEXT.replace("Say", "Say \\ud800").encode(),
        TEXT.encode().replace(b"Say", b"Say \xff"),
        TEXT.encode().replace(b"Say", b"Say \x00"),
        _with('"temperature":NaN'),
        _with('"temperature":Infinity'),
        _with('"temperature":-Infinity'),
        _with('"temperature":1e400'),
        _with(f'"seed":{"9" * 5000}'),
        _with('"x":01'),
        _with('"x":1,'),
        _with(_nested(65)),
        _with(_nested(1_000)),
        _with(_nested(30_000)),
        _with('"x":' + '{"a":' * 200 + "1" + "}" * 200),
    ],
    ids=lambda body: repr(body[-24:]),
)
async def test_what_is_no_request(gateway: Gateway, body: bytes) -> None:
    assert_refused(await gateway.ask(CHAT, body), *INVALID)


PART = {"type": "image_url", "image_url": {"url": "https://a.example/x.png"}}
WRONG: dict[str, list[Any]] = {
    "max_tokens": [-1, 0, 2**63, True, "100", 1.5, [], {}],
    "max_completion_tokens": [-1, 0, 2**63, True, "100", 1.5],
    "n": [1_000_000, 0, -1, True, "1", 1.0],
    "best_of": [1_000_000, 0, "x"],
    "logprobs": [1_000_000, -1, "true", 2.5],
    "top_logprobs": [21, -1, True],
    "stop": [["x"] * 10_000, 7, [7], {"a": 1}, ["x"] * 17],
    "temperature": [-0.1, 2.1, "1", True, 1e300],
    "top_p": [-1, 1.5, "x"],
    "stream": ["true", 1, 0, []],
    "stream_options": [[], "x", 1],
    "tools": [[{}] * 5_000, {}, "x"],
    "messages": ["text", [MESSAGE] * 2_049, {}, []],
    "model": [None, "", 7, ["chat"], {}],
    "user": [7, ["x"], {}],
    "metadata": ["x", [], 7],
    "response_format": ["json", []],
    "seed": [1.5, "1", True],
}


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name, values in WRONG.items() for value in values],
    ids=lambda value: repr(value)[:24],
)
async def test_a_field_that_is_wrong_is_named(gateway: Gateway, name: str, value: Any) -> None:
    got = await gateway.chat(**{name: value})
    assert_refused(got, *INVALID)
    assert got.json()["error"]["param"] == name
    assert f"'{name}'" in got.json()["error"]["message"]


@pytest.mark.parametrize(
    "message",
    [
        "text",
        None,
        {},
        {"content": "x"},
        {"role": 7, "content": "x"},
        {"role": "user", "content": 7},
        {"role": "user", "content": {"type": "text"}},
        {"role": "user", "content": ["text"]},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": 7}}]},
    ],
    ids=lambda message: repr(message)[:50],
)
async def test_messages_that_are_none(gateway: Gateway, message: Any) -> None:
    got = await gateway.chat(messages=[message])
    assert_refused(got, *INVALID)
    assert got.json()["error"]["param"].startswith("messages[0]")


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "FILE:///etc/passwd",
        "ftp://a.example/x",
        "//a.example/x",
        "/etc/passwd",
        "",
        "javascript:alert(1)",
        "http://127.0.0.1/x",
        "http://127.1/x",
        "http://2130706433/",
        "http://0x7f000001/",
        "http://0177.0.0.1/",
        "http://0/",
        "http://localhost/",
        "http://LOCALHOST./",
        "http://a.localhost:80/",
        "http://[::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[::]/",
        "http://169.254.169.254/latest/meta-data/",
        "http://[fe80::1]/",
        "http://user@127.0.0.1/",
        "http://a.example@127.0.0.1/",
        "http://\t127.0.0.1/",
        "http:///x",
        "http://[::1",
        "http://１２７.0.0.1/",
        "http://127。0。0。1/",
        "http://ⓛocalhost/",
        "http://127.0.0.1\\@a.example/",
        "http://a.example\\@127.0.0.1/",
        " http://127.0.0.1/",
    ],
)
async def test_no_provider_is_asked_to_fetch_from_itself(gateway: Gateway, url: str) -> None:
    for image in ({"url": url}, url):
        part = {"type": "image_url", "image_url": image}
        assert_refused(await gateway.chat(messages=[{"role": "user", "content": [part]}]), *INVALID)


STEERING: tuple[str, ...] = (
    "api_base",
    "base_url",
    "api_key",
    "extra_headers",
    "litellm_params",
    "litellm_metadata",
)
STEERING += ("custom_llm_provider", "fallbacks", "extra_body", "organization", "mock_response")


@pytest.mark.parametrize("name", STEERING)
@pytest.mark.parametrize("path", [CHAT, "/v1/completions", "/v1/embeddings"])
async def test_fields_that_steer_are_refused(gateway: Gateway, path: str, name: str) -> None:
    for value in ("http://evil.example/v1", {"a": "b"}, None):
        body = {**chat(), "prompt": "x", "input": "x", name: value}
        got = await gateway.ask(path, body)
        assert_refused(got, *INVALID)
        assert got.json()["error"]["param"] == name


async def test_a_long_name_is_not_repeated_whole(gateway: Gateway) -> None:
    assert_refused(await gateway.ask(CHAT, {**chat(), "litellm_" + "x" * 20_000: 1}), *INVALID)
    assert_refused(await gateway.chat(model="x" * 20_000), 404, "model_not_found")


async def test_what_is_not_ours_passes_unharmed(gateway: Gateway, upstream: Upstream) -> None:
    active = "".join(map(chr, range(32))) + "\x7f\x9b\u202e\u2066\u200b\ufeff\U000e0041e\u0301\ufffe"
    parts = [{"type": "unknown_kind", "unknown_kind": {"deep": [1, {"a": None}]}}, PART]
    sent = chat(
        messages=[{"role": "user", "content": active, "odd": 1}, {"role": "user", "content": parts}],
        unknown={"a": [1.5, None, True]},
        max_tokens=None,
        n=None,
        logit_bias={"5": -1},
        thinking={"type": "enabled"},
        top_k=7,
        user=active,
        seed=2**63 - 1,
    )
    upstream.next(send(OK))
    assert (await gateway.chat(**sent)).status == 200
    assert upstream.last.json() == {**sent, "model": "upstream-model"}


async def test_of_doubled_keys_all_see_the_same(gateway: Gateway, upstream: Upstream) -> None:
    upstream.next(send(OK))
    got = await gateway.ask(CHAT, _with('"n":1,"n":2,"model":"nothing","model":"chat"'))
    assert got.status == 200
    assert upstream.last.json() == {**chat(), "model": "upstream-model", "n": 2}
    assert upstream.last.body.count(b'"model"') == upstream.last.body.count(b'"n"') == 1
    got = await gateway.ask(CHAT, _with('"model":"nothing"'))
    assert_refused(got, 404, "model_not_found")
    assert_refused(await gateway.ask(CHAT, _with('"n":1,"n":9')), *INVALID)
