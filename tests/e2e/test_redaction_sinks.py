"""Nothing that remembers a request ever sees the personal data in it: marks go in by every route, and are
looked for in every place."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import pytest_asyncio

from tests.e2e.operators import ADMIN, kill, new_key, unkill
from tests.e2e.redacting import (
    API_KEY,
    CARD,
    IBAN,
    MASK,
    PHONE,
    RESTORE,
    SSN,
    ask,
    key_of,
    policies,
    row_of,
    tenant,
    user,
)
from tests.e2e.refusals import assert_refused
from tests.e2e.rig import CHAT, Gateway, chat
from tests.e2e.routes import NEVER_OPEN, Providers, pool, routing, said
from tests.e2e.sinks import Leak, Monitor, assert_without, dump, left_behind
from tests.fakes import answers
from tests.fakes.answers import chat_body, chat_stream, chunk, json_answer, open_stream, stream
from tests.fakes.client import Answer, request
from tests.fakes.upstream import Seen, reset, send, wait
from tests.storage.redis_server import RedisServer, redis_server
from tests.unit.jwt_rig import AUDIENCE, ISSUER, Signer, jwks

pytestmark = pytest.mark.asyncio(loop_scope="module")

MAIL = f"mark.{secrets.token_hex(5)}@example.com"
OTHER = f"other.{secrets.token_hex(5)}@example.org"
CONTROL = f"control.{secrets.token_hex(5)}@example.net"
"""Of a tenant without redaction, where it must be found."""
REQUEST_IDS = [SSN, "415-555-2671", IBAN.replace(" ", ""), API_KEY]
REFUSED_IDS = ["536-22-5555", "415-555-2673", "415-555-2674", "415-555-2675", "415-555-2676"]
REQUEST_IDS += ["536-22-4321", "415-555-2672", "GB29NWBK60161331926819", f"{API_KEY}x8"]
LAST_ID = "536-22-9876"
MARKS = [*REQUEST_IDS, *REFUSED_IDS, LAST_ID, MAIL, OTHER, PHONE, CARD, SSN, IBAN, API_KEY]
TEXT = f"I am {MAIL}, {PHONE}, card {CARD}, SSN {SSN}, IBAN {IBAN}, key {API_KEY}."
HEADERS = {
    "x-gateway-user": MAIL,
    "x-gateway-feature": OTHER,
    "x-gateway-tags": f"for={IBAN},{OTHER}=of,{SSN}=1",
    "user-agent": MAIL,
    "referer": f"https://example.com/?of={OTHER}",
    "cookie": f"who={MAIL}",
    "x-of-the-future": SSN,
}
SIGNER = Signer("one", "ES256")
QUICK = {"attempts": 2, "backoff_s": 0.01, "backoff_max_s": 0.02}


@pytest.fixture(scope="module", params=["memory", "redis"])
def store(request: pytest.FixtureRequest) -> Iterator[RedisServer | None]:
    if request.param == "memory":
        yield None
        return
    with redis_server() as server:
        yield server


@pytest.fixture(scope="module")
def monitor(store: RedisServer | None) -> Iterator[Monitor | None]:
    heard = None if store is None else Monitor(store)
    yield heard
    if heard is not None:
        heard.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def upstream(store: RedisServer | None) -> AsyncIterator[Providers]:
    """For each store, since what it has seen is compared with one gateway's ledger."""
    async with Providers() as running:
        yield running


def configuration(upstream: Providers, store: RedisServer | None, jwks_file: Path) -> dict[str, Any]:
    limits = {"limits": {"rpm": 100_000, "tpm": 10**9}, "budget": {"usd": 1000, "period": "month"}}
    configured = policies()
    configured["tenants"] = {
        "marked": tenant("marked", MASK, user_budget={"usd": 100, "period": "day"}, **limits),
        "restored": tenant("restored", RESTORE, on_disconnect="drain", **limits),
        "refusing": tenant("refusing", {"mode": "block"}, **limits),
    }
    groups = {
        "g": pool("a", retry={"attempts": 1}, breaker=NEVER_OPEN),
        "twice": pool("a", "b", retry=QUICK, breaker=NEVER_OPEN),
        "first": pool("a", retry=QUICK, fallbacks=["second"], breaker=NEVER_OPEN),
        "second": pool("b", retry=QUICK, breaker=NEVER_OPEN),
        "goes-on": pool("a", "b", on_cut="continue", retry=QUICK, breaker=NEVER_OPEN),
    }
    issuer = {"issuer": ISSUER, "audience": AUDIENCE, "jwks_file": str(jwks_file)}
    settings = {**configured, **ADMIN, **routing(upstream, groups), "auth": {"jwt": [issuer]}}
    settings["providers"]["b"]["prefill"] = "message"
    if store is not None:
        settings["storage"] = {"url": store.url}
    return settings


@pytest.fixture(scope="module")
def changes(
    upstream: Providers,
    store: RedisServer | None,
    monitor: Monitor | None,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Any]:
    jwks_file = tmp_path_factory.mktemp("jwks") / "jwks.json"
    jwks_file.write_bytes(jwks(SIGNER))
    return configuration(upstream, store, jwks_file)


@pytest.fixture(scope="module")
def told(store: RedisServer | None) -> set[Leak]:
    """What stays where it is found shows after every later test, too."""
    return set()


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def clean(
    settled: None, gateway: Gateway, store: RedisServer | None, monitor: Monitor | None, told: set[Leak]
) -> AsyncIterator[None]:
    """After every test there is no mark anywhere."""
    yield
    found = await left_behind(gateway, "marked")
    if store is not None and monitor is not None:
        found["redis"] = await asyncio.to_thread(dump, store)
        found["redis monitor"] = await asyncio.to_thread(monitor.heard)
    assert_without(found, MARKS, told)


def assert_hidden(seen: Seen) -> None:
    heads = "\n".join(f"{name}: {value}" for name, value in seen.headers)
    assert_without({"body": seen.body, "headers": heads.encode(), "path": seen.path.encode()}, MARKS)


async def send_marked(gateway: Gateway, name: str, **fields: Any) -> Answer:
    return await ask(gateway, name, TEXT, **{"model": "g", "headers": HEADERS, "user": MAIL, **fields})


@pytest.mark.parametrize("name", ["marked", "restored"])
@pytest.mark.parametrize("streams", [True, False], ids=["stream", "buffered"])
async def test_chat(gateway: Gateway, upstream: Providers, name: str, streams: bool) -> None:
    text = f"I know [EMAIL_ADDRESS_1] and {OTHER}; {TEXT}"
    steps = stream(chat_stream(list(text))) if streams else [send(json_answer(chat_body(text)))]
    upstream.once("g-1", *steps)
    answer = await send_marked(gateway, name, stream=streams, metadata={"who": OTHER})
    told = said(answer)
    assert (MAIL in told) == (name == "restored")
    assert_hidden(upstream.last)
    row = await row_of(gateway, answer)
    assert re.fullmatch(r"\[EMAIL_ADDRESS_[0-9a-f]{12}\]", row["user"])
    assert row["feature"].startswith("[EMAIL_ADDRESS_") and row["tags"]["for"].startswith("[IBAN_CODE_")


@pytest.mark.parametrize(
    ("path", "fields", "native"),
    [
        ("/v1/completions", {"prompt": TEXT}, answers.completion_body(f"To {OTHER}")),
        ("/v1/embeddings", {"input": [TEXT, MAIL]}, answers.embedding_body([0.5], [1.0])),
    ],
    ids=["completions", "embeddings"],
)
async def test_other_routes(
    gateway: Gateway, upstream: Providers, path: str, fields: dict[str, Any], native: dict[str, Any]
) -> None:
    upstream.once("g-1", send(json_answer(native)))
    answer = await ask(gateway, "marked", path=path, model="g", headers=HEADERS, **fields)
    assert answer.status == 200, answer.body
    assert_hidden(upstream.last)


@pytest.mark.parametrize(
    ("model", "request_id"),
    [*(("g", one) for one in REQUEST_IDS[:4]), *(("unknown", one) for one in REQUEST_IDS[4:])],
)
async def test_request_ids(gateway: Gateway, upstream: Providers, request_id: str, model: str) -> None:
    if model == "g":
        upstream.once("g-1", send(json_answer(chat_body("fine"))))
    answer = await ask(gateway, "marked", "hi", model=model, headers={"x-request-id": request_id})
    assert answer.status == (200 if model == "g" else 404)


async def test_request_ids_of_what_is_refused_early(gateway: Gateway) -> None:
    """Also before there is a body, let alone a model."""
    asked: list[tuple[str, Any, dict[str, str]]] = [
        ("/v1/nothing", None, {}),
        ("/v1/models/nothing", None, {}),
        (CHAT, None, {}),
        (CHAT, chat(), {"x-gateway-tags": "none"}),
        (CHAT, chat(), {"content-type": "text/plain"}),
    ]
    for request_id, (path, body, headers) in zip(REFUSED_IDS, asked, strict=True):
        headers = {**headers, "x-request-id": request_id}
        answer = await gateway.ask(path, body, key=key_of("marked"), headers=headers)
        assert 400 <= answer.status < 500
        chosen = answer.header("x-request-id") or ""
        assert chosen == answer.json()["error"]["request_id"] != request_id
        await gateway.line(chosen)


INVALID: dict[str, Any] = {
    "unknown model": chat(model=MAIL, messages=user(TEXT)),
    "model of another type": chat(model=[MAIL]),
    "messages": {"model": "g", "messages": TEXT},
    "role": {"model": "g", "messages": [{"role": {MAIL: SSN}, "content": TEXT}]},
    "content": {"model": "g", "messages": [{"role": "user", "content": {MAIL: TEXT}}]},
    "part": {"model": "g", "messages": [{"role": "user", "content": [TEXT]}]},
    "stop": chat(model="g", stop={MAIL: SSN}),
    "temperature": chat(model="g", temperature=TEXT),
    "max_tokens": chat(model="g", max_tokens=4111111111111111),
    "steering": chat(model="g", **{f"litellm_{MAIL}": SSN}),
    "image": chat(
        model="g",
        messages=[
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": f"x://{MAIL}"}}]}
        ],
    ),
    "no JSON": f'{{"model":"g","messages":"{TEXT}",}}'.encode(),
    "no text": b'{"model":"g","who":"' + MAIL.encode() + b'\xff"}',
    "cut": f'{{"model":"g","messages":[{{"role":"user","content":"{TEXT}'.encode(),
    "twice": f'{{"model":"g","{MAIL}":1,"{MAIL}":2,"messages":[]}}'.encode(),
}


async def test_invalid_bodies(gateway: Gateway) -> None:
    for name, body in INVALID.items():
        answer = await gateway.ask(CHAT, body, key=key_of("marked"), headers=HEADERS)
        assert answer.status in (400, 404), (name, answer.body)


async def test_a_query(gateway: Gateway, upstream: Providers) -> None:
    upstream.once("g-1", send(json_answer(chat_body("fine"))))
    answer = await ask(gateway, "marked", path=f"{CHAT}?of={MAIL}", model="g", messages=user(TEXT))
    assert answer.status == 200, answer.body
    assert_hidden(upstream.last)


async def test_invalid_heads(gateway: Gateway) -> None:
    for headers in (
        {"x-gateway-tags": f"no pair but {MAIL}"},
        {"x-gateway-user": f"{MAIL}\x1b[31m"},
        {"x-gateway-feature": f"<{MAIL}>"},
        {"x-request-timeout-ms": MAIL},
        {"content-type": f"text/{MAIL}"},
        {"content-encoding": MAIL},
    ):
        answer = await ask(gateway, "marked", TEXT, model="g", headers=headers)
        assert answer.status in (400, 415), answer.body


async def test_other_paths(gateway: Gateway) -> None:
    for path in (f"/v1/models/{MAIL}", f"/v1/{MAIL}", f"/v1/chat/completions?user={MAIL}", f"/{MAIL}"):
        answer = await gateway.ask(path, key=key_of("marked"), headers=HEADERS)
        assert answer.status in (404, 405), answer.body


async def test_a_key_that_is_none(gateway: Gateway) -> None:
    for key in (f"sk-{MAIL}", f"{API_KEY}-{SSN}"):
        assert (await gateway.ask(CHAT, chat(messages=user(TEXT)), key=key)).status == 401


async def test_a_token_that_says_who_asks(gateway: Gateway, upstream: Providers) -> None:
    token = SIGNER.token(sub=MAIL, tenant="marked")
    upstream.once("g-1", send(json_answer(chat_body("fine"))))
    body = chat(model="g", messages=user(TEXT))
    answer = await gateway.ask(CHAT, body, key=token, headers={"x-gateway-tags": f"of={OTHER}"})
    row = await row_of(gateway, answer)
    assert row["key"] == "jwt" and row["user"].startswith("[EMAIL_ADDRESS_")


async def test_a_refusal(gateway: Gateway, upstream: Providers) -> None:
    before = len(upstream.seen)
    answer = await send_marked(gateway, "refusing")
    assert_refused(answer, 403, "redaction_blocked")
    assert len(upstream.seen) == before
    assert_without({"answer": answer.body}, MARKS)


@pytest.mark.parametrize("model", ["twice", "first"])
async def test_other_attempts_see_no_more(gateway: Gateway, upstream: Providers, model: str) -> None:
    ways = {"twice": ("twice-1", "twice-2"), "first": ("first-1", "second-1")}
    first, second = ways[model]
    failed = answers.error_answer("500 Internal Server Error", message=f"Cannot: {TEXT}")
    upstream.once(first, send(failed))
    if model == "first":
        upstream.once(first, send(failed))
    upstream.once(second, send(json_answer(chat_body("I know [EMAIL_ADDRESS_1]."))))
    before = len(upstream.seen)
    answer = await send_marked(gateway, "restored", model=model)
    if model == "first" and answer.status != 200:
        pytest.fail(str(answer.body))
    upstream._once[first].clear()
    assert said(answer) == f"I know {MAIL}."
    bodies = [seen.json() for seen in upstream.seen[before:]]
    assert len(bodies) >= 2
    assert all(body["messages"] == bodies[0]["messages"] for body in bodies)
    for seen in upstream.seen[before:]:
        assert_hidden(seen)


async def test_an_answer_that_another_goes_on_with(gateway: Gateway, upstream: Providers) -> None:
    begun = [chunk({"role": "assistant", "content": ""}), chunk({"content": "Well, [EMAIL_ADDR"})]
    upstream.once("goes-on-1", open_stream(*begun), wait(0.02), reset())
    text = f"ESS_1], {OTHER} and that is all."
    rest = [chunk({"role": "assistant", "content": ""}), chunk({"content": text})]
    upstream.once("goes-on-2", *stream([*rest, chunk({}, finish="stop"), answers.DONE]))
    answer = await send_marked(gateway, "restored", model="goes-on", stream=True)
    assert said(answer) == f"Well, {MAIL}, [EMAIL_ADDRESS_2] and that is all."


@pytest.mark.parametrize(
    "status", ["400 Bad Request", "404 Not Found", "429 Too Many Requests", "500 Internal Server Error"]
)
@pytest.mark.parametrize("streams", [True, False], ids=["stream", "buffered"])
async def test_providers_that_echo(
    gateway: Gateway, upstream: Providers, status: str, streams: bool
) -> None:
    """In their errors, and in heads of their own."""
    native = {"error": {"message": f"No: {TEXT}", "type": "e", "code": "c", "param": MAIL}}
    heads = (f"x-request-id: {SSN}", f"openai-organization: {MAIL}")
    upstream.once("g-1", send(json_answer(native, *heads, status=status)))
    answer = await send_marked(gateway, "marked", stream=streams)
    assert answer.status >= 400
    assert_without({"answer": answer.body, "headers": repr(answer.headers).encode()}, MARKS)


async def test_an_error_in_a_stream_that_echoes(gateway: Gateway, upstream: Providers) -> None:
    events = [chunk({"content": "One. "}), answers.event({"error": {"message": TEXT, "code": MAIL}})]
    upstream.once("g-1", *stream(events))
    answer = await send_marked(gateway, "marked", stream=True)
    assert_without({"answer": b"".join(answer.events)}, MARKS)


ODD_EVENTS = [
    b"data: %b\n\n",
    b'data: "%b"\n\n',
    b'data: ["%b"]\n\n',
    b": %b\n\n",
    b"event: %b\ndata: {}\n\n",
    b'data: {"choices": "%b"}\n\n',
    b'data: {"choices": ["%b"]}\n\n',
    b'data: {"choices": [{"index": 0, "delta": "%b"}]}\n\n',
    b'data: {"choices": [{"index": 0, "delta": {"content": [{"text": "%b"}]}}]}\n\n',
    b'data: {"choices": [{"index": "%b", "delta": {"content": "%b"}}]}\n\n',
    b'data: {"choices": [], "%b": {"%b": "%b"}}\n\n',
    b'data: {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "x": "%b"}]}}]}\n\n',
    b'data: {"choices": [{"index": 0, "delta": {}, "message": {"content": "%b"}}]}\n\n',
]


async def test_odd_events_that_echo(gateway: Gateway, upstream: Providers) -> None:
    for event in ODD_EVENTS:
        raw = event.replace(b"%b", OTHER.encode())
        events = [chunk({"content": "One. "}), raw, chunk({}, finish="stop"), answers.DONE]
        upstream.once("g-1", *stream(events))
        answer = await send_marked(gateway, "marked", stream=True)
        assert_without({event.decode(): answer.body + b"\n".join(answer.events)}, MARKS)


@pytest.mark.parametrize(
    "body", [b"no JSON: %b", b'{"choices": "%b"', b"\x00%b", b'["%b"]', b'"%b"', b'{"choices": "%b"}']
)
async def test_nonsense_that_echoes(gateway: Gateway, upstream: Providers, body: bytes) -> None:
    upstream.once("g-1", send(answers.answer(body % TEXT.encode())))
    answer = await send_marked(gateway, "marked")
    assert_without({"answer": answer.body}, MARKS)


async def test_a_client_that_leaves(gateway: Gateway, upstream: Providers) -> None:
    """Its answer is read on, and settled."""
    events = [chunk({"content": letter}) for letter in f"{TEXT} Bye."]
    steps = [open_stream(*events[:20]), wait(0.2), send(answers.chunked([*events[20:], answers.DONE]))]
    upstream.once("g-1", *steps)
    headers = {**HEADERS, "x-request-id": f"left-{secrets.token_hex(4)}"}
    async with gateway.client() as client:
        body = chat(model="g", stream=True, messages=user(TEXT))
        await client.send(request(CHAT, body, key=key_of("restored"), headers=headers))
        await client.read_head()
    assert (await gateway.row(headers["x-request-id"]))["outcome"] == "client_gone"


def key() -> dict[str, str]:
    return {"idempotency-key": f"{secrets.token_hex(4)}-{MAIL}"}


def replayed(answer: Answer) -> bool:
    return answer.header("x-gateway-idempotent-replay") == "true"


@pytest.mark.parametrize("name", ["marked", "restored"])
@pytest.mark.parametrize("streams", [True, False], ids=["stream", "buffered"])
async def test_replays(gateway: Gateway, upstream: Providers, name: str, streams: bool) -> None:
    """What is kept is masked, what is given again is restored, by what the second request holds."""
    headers = {**HEADERS, **key()}
    text = f"You are [EMAIL_ADDRESS_1], she is {OTHER}. Not {MAIL}?"
    upstream.once(
        "g-1", *(stream(chat_stream(list(text))) if streams else [send(json_answer(chat_body(text)))])
    )
    first = await send_marked(gateway, name, stream=streams, headers=headers)
    again = await send_marked(gateway, name, stream=streams, headers=headers)
    assert (replayed(first), replayed(again)) == (False, True)
    assert said(again) == said(first)
    own = MAIL if name == "restored" else "[EMAIL_ADDRESS_1]"
    assert said(again).startswith(f"You are {own}, ")
    assert said(again).endswith(f" Not {own}?")
    assert again.header("x-gateway-redaction") is not None


@pytest.mark.parametrize("name", ["marked", "restored"])
async def test_only_the_masked_value_differs(gateway: Gateway, upstream: Providers, name: str) -> None:
    """Both requests look alike to the provider; they are two all the same."""
    headers = key()
    upstream.once("g-1", send(json_answer(chat_body("Hello [EMAIL_ADDRESS_1]."))))
    first = await ask(gateway, name, f"I am {MAIL}", model="g", headers=headers)
    assert first.status == 200
    other = await ask(gateway, name, f"I am {OTHER}", model="g", headers=headers)
    assert_refused(other, 422, "idempotency_conflict")
    assert replayed(await ask(gateway, name, f"I am {MAIL}", model="g", headers=headers))


async def test_operators_at_work(gateway: Gateway, upstream: Providers) -> None:
    """With entries of the audit log, and a refusal by a switch."""
    await new_key(gateway, "marked")
    await kill(gateway, "model/g")
    answer = await ask(gateway, "marked", TEXT, model="g", headers={**HEADERS, "x-request-id": LAST_ID})
    assert_refused(answer, 403, "kill_switch")
    await unkill(gateway, "model/g")
    assert gateway.log("key_made")


INJECTED = '\n{"level":"fatal","event":"request","tenant":"x"}\r\n\x1b[31mred\x1b[0m\u2028\x00'


async def test_nobody_writes_lines_of_the_log(gateway: Gateway, upstream: Providers) -> None:
    before = len(gateway.log("request"))
    upstream.once("g-1", send(json_answer(chat_body("fine"))))
    native = {"error": {"message": INJECTED, "type": INJECTED, "code": INJECTED}}
    upstream.once("g-1", send(json_answer(native, status="400 Bad Request")))
    asked = [chat(model="g", messages=user(INJECTED))] * 2
    asked += [chat(model=INJECTED), chat(model="g", stop=3), chat(model="g", **{f"litellm_{INJECTED}": 1})]
    for body in asked:
        answer = await gateway.ask(CHAT, body, key=key_of("marked"), headers={"x-gateway-user": "u"})
        await gateway.line(answer.header("x-request-id") or "")
    for name in ("x-gateway-user", "x-request-id"):
        headers = {name: "x\x1b[31m\x07"}
        upstream.once("g-1", send(json_answer(chat_body("fine"))))
        answer = await ask(gateway, "marked", "hi", model="g", headers=headers)
        await gateway.line(answer.header("x-request-id") or "")
    upstream.forget()
    assert len(gateway.log("request")) == before + len(asked) + 2
    raw = gateway.stderr.read_bytes()
    assert b"\x1b" not in raw and b"\x00" not in raw and b"\r" not in raw
    assert {line["level"] for line in gateway.log()} <= {"info", "warning", "error"}
    assert all(orjson.loads(line) for line in raw.splitlines())


async def test_what_is_looked_for_would_be_found(
    gateway: Gateway, upstream: Providers, store: RedisServer | None, monitor: Monitor | None
) -> None:
    """A tenant without redaction leaves its mark."""
    upstream.once("g-1", send(json_answer(chat_body(f"You are {CONTROL}."))))
    headers = {"idempotency-key": secrets.token_hex(8), "x-gateway-user": CONTROL}
    answer = await gateway.chat(model="g", messages=user(CONTROL), headers=headers)
    await row_of(gateway, answer)
    found = await left_behind(gateway, "acme")
    assert CONTROL in str(found["spend?group_by=user,feature,model"])
    assert any(CONTROL.encode() in content for name, content in found.items() if "ledger/" in name)
    if store is not None and monitor is not None:
        assert CONTROL.encode() in dump(store)
        assert CONTROL.encode() in monitor.heard()
