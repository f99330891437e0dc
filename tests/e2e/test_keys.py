"""Who asks: keys that are none, what a key may use, and where a key must never be seen."""

from __future__ import annotations

import hashlib
import itertools
import secrets
from typing import Any

import pytest

from tests.e2e.refusals import assert_refused, exchange
from tests.e2e.rig import CHAT, Gateway, chat, group
from tests.fakes import answers
from tests.fakes.answers import json_answer
from tests.fakes.client import request
from tests.fakes.upstream import Upstream, send

pytestmark = pytest.mark.asyncio(loop_scope="module")

OK = json_answer(answers.chat_body("fine"))
KEYS = {name: f"sk-gw-{secrets.token_urlsafe(24)}" for name in ("narrow", "aliased", "expired", "limited")}
PATHS = (CHAT, "/v1/completions", "/v1/embeddings", "/v1/models", "/v1/models/chat", "/v1/nothing", "/v1/")
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")


def _key(name: str, **fields: Any) -> list[dict[str, Any]]:
    return [{"id": name, "hash": f"sha256:{hashlib.sha256(KEYS[name].encode()).hexdigest()}", **fields}]


@pytest.fixture(scope="module")
def changes(upstream: Upstream) -> dict[str, Any]:
    return {
        "providers": {"open": {"kind": "openai", "base_url": f"{upstream.url}/v1"}},
        "models": {"small": group(), "open": group("open")},
        "aliases": {"fast": "chat"},
        "tenants": {
            "narrow": {"models": ["small"], "keys": _key("narrow")},
            "aliased": {"models": ["fast"], "keys": _key("aliased")},
            "expired": {"models": ["*"], "keys": _key("expired", expires="2020-01-31")},
            "limited": {"models": ["small", "chat"], "keys": _key("limited", models=["chat"])},
        },
    }


@pytest.fixture(scope="module", autouse=True)
def searched(gateway: Gateway) -> None:
    """No sink may hold them."""
    gateway.secrets += KEYS.values()


def _presented(key: str) -> dict[str, dict[str, str]]:
    return {
        "none": {},
        "empty": {"authorization": ""},
        "scheme alone": {"authorization": "Bearer"},
        "scheme and space": {"authorization": "Bearer "},
        "wrong scheme": {"authorization": f"Basic {key}"},
        "no scheme": {"authorization": key},
        "unknown": {"authorization": f"Bearer sk-gw-{'x' * 32}"},
        "one letter more": {"authorization": f"Bearer {key}x"},
        "one letter less": {"authorization": f"Bearer {key[:-1]}"},
        "other case": {"authorization": f"Bearer {key.swapcase()}"},
        "two keys": {"authorization": f"Bearer {key}", "x-api-key": KEYS["narrow"]},
        "a good and an empty key": {"authorization": f"Bearer {key}", "api-key": ""},
        "two keys in one": {"authorization": f"Bearer {key}, Bearer {key}"},
        "short": {"x-api-key": "short"},
        "long": {"x-api-key": "x" * 8000},
        "not ASCII": {"authorization": f"Bearer {key}\xe9"},
        "not ASCII alone": {"x-api-key": "\xff" * 40},
        "a tab inside": {"authorization": f"Bearer {key[:20]}\t{key[20:]}"},
        "the provider's hash": {"x-api-key": f"sha256:{hashlib.sha256(key.encode()).hexdigest()}"},
        "in a cookie": {"cookie": f"authorization=Bearer {key}"},
    }


@pytest.mark.parametrize("name", _presented(""))
async def test_a_key_that_is_none(gateway: Gateway, name: str) -> None:
    headers = _presented(gateway.key)[name]
    got = await gateway.ask(CHAT, chat(), key=None, headers=headers)
    assert_refused(got, 401, "invalid_api_key")
    seen = await gateway.ask("/v1/models", key=None, headers=headers)
    assert_refused(seen, 401, "invalid_api_key")
    assert seen.json()["error"]["message"] == got.json()["error"]["message"]
    line = await gateway.line(got.header("x-request-id") or "")
    assert "tenant" not in line and "key" not in line


async def test_a_key_in_the_query_opens_nothing(gateway: Gateway) -> None:
    for name in ("key", "api_key", "api-key", "access_token"):
        got = await gateway.ask(f"{CHAT}?{name}={gateway.key}", chat(), key=None)
        assert_refused(got, 401, "invalid_api_key")


async def test_a_key_of_a_megabyte_is_not_read(gateway: Gateway) -> None:
    head = f"GET /v1/models HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {'k' * (1 << 20)}\r\n\r\n"
    assert_refused(await exchange(gateway, head.encode()), 431, "headers_too_large")


@pytest.mark.parametrize("header", ["authorization", "x-api-key", "api-key"])
async def test_a_key_is_taken_from_three_headers(gateway: Gateway, header: str) -> None:
    value = f"bearer  {gateway.key}" if header == "authorization" else gateway.key
    assert (await gateway.ask("/v1/models", key=None, headers={header: value})).status == 200
    twice = {"x-api-key": gateway.key, "api-key": gateway.key}
    assert (await gateway.ask("/v1/models", headers=twice)).status == 200


async def test_without_a_key_every_path_and_method_answers_401(gateway: Gateway) -> None:
    """Before 404, 405, 413 and 415: nobody learns what is there."""
    wrong = {
        "as it is": (b"", {}),
        "too large": (None, {"content-type": "application/json", "content-length": "99999999999"}),
        "wrong media": (b"x", {"content-type": "text/plain", "content-length": "1"}),
        "compressed": (b"x", {"content-encoding": "gzip", "content-length": "1"}),
    }
    for path, method, (body, headers) in itertools.product(PATHS, METHODS, wrong.values()):
        block = request(path, None, method=method, headers=headers) + (body or b"")
        async with gateway.client() as client:
            await client.send(block)
            if method == "HEAD":
                assert (await client.read_head()).status == 401
            else:
                assert_refused(await client.read(), 401, "invalid_api_key")


async def test_models_lists_what_the_key_may_use(gateway: Gateway) -> None:
    expected = {
        gateway.key: ["chat", "fast", "open", "small"],
        KEYS["narrow"]: ["small"],
        KEYS["aliased"]: ["fast"],
        KEYS["limited"]: ["chat", "fast"],
    }
    for key, names in expected.items():
        got = await gateway.ask("/v1/models", key=key)
        assert got.json()["object"] == "list"
        assert [model["id"] for model in got.json()["data"]] == names
        for name in ("chat", "fast", "small", "nothing"):
            one = await gateway.ask(f"/v1/models/{name}", key=key)
            if name in names:
                assert (one.status, one.json()["id"], one.json()["object"]) == (200, name, "model")
            else:
                assert_refused(one, 404, "model_not_found")


@pytest.mark.parametrize(
    ("name", "model", "allowed"),
    [
        ("narrow", "small", True),
        ("narrow", "chat", False),
        ("narrow", "fast", False),
        ("aliased", "fast", True),
        ("aliased", "chat", False),
        ("limited", "chat", True),
        ("limited", "fast", True),
        ("limited", "small", False),
    ],
)
async def test_a_key_reaches_its_own_models_alone(
    gateway: Gateway, upstream: Upstream, name: str, model: str, allowed: bool
) -> None:
    if allowed:
        upstream.next(send(OK))
    got = await gateway.ask(CHAT, chat(model=model), key=KEYS[name])
    if allowed:
        assert got.status == 200
        assert (await gateway.row(got.header("x-request-id") or ""))["tenant"] == name
    else:
        assert_refused(got, 403, "model_not_allowed")


async def test_a_provider_without_a_key_is_not_shown_the_client_s(
    gateway: Gateway, upstream: Upstream
) -> None:
    for header in ("authorization", "x-api-key", "api-key"):
        value = f"Bearer {gateway.key}" if header == "authorization" else gateway.key
        upstream.next(send(OK))
        got = await gateway.ask(
            CHAT, chat(model="open"), key=None, headers={header: value, "cookie": "a=b"}
        )
        assert got.status == 200
        seen = upstream.last
        assert {"authorization", "x-api-key", "api-key", "cookie"}.isdisjoint(dict(seen.headers))
        assert gateway.key not in repr(seen.headers)


async def test_nothing_that_a_client_says_moves_the_bill(gateway: Gateway, upstream: Upstream) -> None:
    said = {"x-tenant-id": "narrow", "x-litellm-customer-id": "narrow", "x-litellm-end-user-id": "narrow"}
    said |= {"x-gateway-tags": "tenant=narrow,key=narrow", "openai-organization": "narrow"}
    fields = {"user": "narrow", "metadata": {"tenant": "narrow", "tags": ["narrow"]}, "tags": ["narrow"]}
    upstream.next(send(OK))
    got = await gateway.ask(CHAT, chat(tenant="narrow", **fields), headers=said)
    row = await gateway.row(got.header("x-request-id") or "")
    assert (row["tenant"], row["key"]) == ("acme", "ci")
    assert row["tags"] == {"tenant": "narrow", "key": "narrow"}
    assert row["charged_usd"] == row["cost_usd"]


async def test_an_expired_key_is_told_so(gateway: Gateway) -> None:
    assert_refused(await gateway.ask("/v1/models", key=KEYS["expired"]), 403, "key_expired")


async def test_no_sink_holds_what_clients_sent(gateway: Gateway, upstream: Upstream) -> None:
    """Whatever was refused, and wherever it stood; the fixture after the test searches the sinks."""
    mark = f"mark-{secrets.token_hex(12)}"
    gateway.secrets.append(mark)
    text = [{"role": "user", "content": mark}]
    upstream.next(send(OK))
    assert (await gateway.chat(messages=text)).status == 200
    assert (await gateway.ask(CHAT, chat(messages=text), key=mark)).status == 401
    assert (await gateway.ask(CHAT, b'{"model": "chat", "' + mark.encode())).status == 400
    assert (await gateway.chat(messages=text, temperature=mark)).status == 400
    assert (await gateway.chat(messages=text, user=[mark])).status == 400
    assert (await gateway.chat(messages=mark)).status == 400
    assert (await gateway.chat(messages=text, headers={"x-gateway-user": f"<{mark}>"})).status == 400
    assert (await gateway.chat(messages=text, headers={"x-request-timeout-ms": mark})).status == 400
    assert (await gateway.chat(messages=text, headers={"x-request-id": f"<{mark}>"}, n=0)).status == 400
    assert (await gateway.ask(f"/v1/models?q={mark}")).status == 200
    assert (await gateway.ask(CHAT, chat(), headers={"content-type": mark})).status in (400, 415)


async def test_a_key_where_none_belongs_is_not_logged(gateway: Gateway) -> None:
    assert_refused(await gateway.chat(model=gateway.key), 404, "model_not_found")
    assert_refused(await gateway.ask(f"/v1/models/{gateway.key}"), 404, "model_not_found")
    assert_refused(await gateway.ask(f"/v1/{gateway.key}"), 404, "not_found")
    assert_refused(await gateway.ask(CHAT, {**chat(), f"litellm_{gateway.key}": 1}), 400, "invalid_request")
