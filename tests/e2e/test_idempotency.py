"""One idempotency key, one upstream call: at once, later, as a stream, and when the first one fails."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from typing import Any

import pytest

from tests.e2e.refusals import assert_refused
from tests.e2e.rig import CHAT, Gateway, chat
from tests.e2e.served import came
from tests.fakes import answers
from tests.fakes.answers import chat_body, chat_stream, json_answer
from tests.fakes.client import Answer, request
from tests.fakes.upstream import Step, Upstream, hang, send, wait_for

pytestmark = pytest.mark.asyncio(loop_scope="module")

OTHER_KEY = f"sk-gw-{secrets.token_urlsafe(24)}"
LIMITED_KEY = f"sk-gw-{secrets.token_urlsafe(24)}"
FEW = 4
SAID = ["one ", "two ", "three"]


def tenant(key: str, **more: Any) -> dict[str, Any]:
    digest = hashlib.sha256(key.encode()).hexdigest()
    return {"models": ["*"], "keys": [{"id": "ci", "hash": f"sha256:{digest}"}], **more}


@pytest.fixture(scope="module")
def changes() -> dict[str, Any]:
    limited = tenant(LIMITED_KEY, limits={"rpm": FEW + 1, "tpm": 10_000})
    return {"tenants": {"other": tenant(OTHER_KEY), "limited": limited}}


def fresh() -> dict[str, str]:
    return {"idempotency-key": f"key-{secrets.token_hex(8)}"}


def whole(text: str = "fine") -> Step:
    return send(json_answer(chat_body(text)))


def replayed(answer: Answer) -> bool:
    return answer.header("x-gateway-idempotent-replay") == "true"


async def row(gateway: Gateway, answer: Answer) -> dict[str, Any]:
    return await gateway.row(answer.header("x-request-id") or "")


def assert_free(row: dict[str, Any]) -> None:
    assert (row["outcome"], row["cost_source"], row["attempts"]) == ("ok", "cached", [])
    assert (row["cost_usd"], row["charged_usd"]) == ("0.000000000", "0.000000000")
    assert row["usage"] == {"input_tokens": 0, "output_tokens": 0, "cached_input_tokens": 0}


async def test_two_at_once_are_one_call(gateway: Gateway, upstream: Upstream) -> None:
    before, headers, go = len(upstream.seen), fresh(), asyncio.Event()
    upstream.next(wait_for(go), whole("once"))
    both = [asyncio.get_running_loop().create_task(gateway.chat(headers=headers)) for _ in range(2)]
    await came(upstream, before + 1)
    await asyncio.sleep(0.1)
    go.set()
    first, second = sorted(await asyncio.gather(*both), key=replayed)
    assert len(upstream.seen) == before + 1
    assert (first.status, second.status) == (200, 200)
    assert (replayed(first), replayed(second)) == (False, True)
    assert first.body == second.body
    assert first.header("x-request-id") != second.header("x-request-id")
    assert (await row(gateway, first))["cost_source"] == "provider"
    assert_free(await row(gateway, second))


async def test_a_later_one_gets_the_stored_answer(gateway: Gateway, upstream: Upstream) -> None:
    headers = fresh()
    upstream.next(whole("kept"))
    first = await gateway.chat(headers=headers)
    before = len(upstream.seen)
    reordered = dict(reversed(chat().items()))
    for _ in range(2):
        again = await gateway.ask(CHAT, reordered, headers=headers)
        assert replayed(again) and again.body == first.body
        assert again.header("x-gateway-cost-usd") == "0.000000000"
        for name in ("content-type", "x-gateway-model", "x-gateway-deployment"):
            assert again.header(name) == first.header(name)
        assert_free(await row(gateway, again))
    assert len(upstream.seen) == before


async def test_a_replay_counts_as_a_request_and_gives_its_tokens_back(
    gateway: Gateway, upstream: Upstream
) -> None:
    """Thrice 4096 tokens and the input would be more than the limit of tokens."""
    headers = fresh()
    upstream.next(whole())
    upstream.next(whole())
    await row(gateway, await gateway.ask(CHAT, chat(), key=LIMITED_KEY))
    for count in range(FEW):
        answer = await gateway.ask(CHAT, chat(), headers=headers, key=LIMITED_KEY)
        assert (answer.status, replayed(answer)) == (200, count > 0), answer.body
        await row(gateway, answer)
    answer = await gateway.ask(CHAT, chat(), headers=headers, key=LIMITED_KEY)
    assert_refused(answer, 429, "rate_limit_exceeded")


@pytest.mark.parametrize("at_once", [True, False])
async def test_a_stream_is_given_again_as_it_was(
    gateway: Gateway, upstream: Upstream, at_once: bool
) -> None:
    before, headers, go = len(upstream.seen), fresh(), asyncio.Event()
    upstream.next(
        answers.open_stream(*chat_stream(SAID[:1], finish=None, usage=None, done=False)),
        wait_for(go),
        send(answers.chunked(chat_stream(SAID[1:]))),
    )
    begun = asyncio.get_running_loop().create_task(gateway.chat(headers=headers, stream=True))
    await came(upstream, before + 1)
    if at_once:
        joined = asyncio.get_running_loop().create_task(gateway.chat(headers=headers, stream=True))
        await asyncio.sleep(0.1)
        go.set()
        first, second = await asyncio.gather(begun, joined)
    else:
        go.set()
        first = await begun
        second = await gateway.chat(headers=headers, stream=True)
    assert replayed(second) and not replayed(first)
    assert (second.header("content-type") or "").startswith("text/event-stream")
    assert first.events[-1] == b"[DONE]" and len(first.events) > 4
    assert second.events == first.events
    assert len(upstream.seen) == before + 1
    assert_free(await row(gateway, second))


@pytest.mark.parametrize("running", [True, False])
async def test_the_same_key_with_another_body_is_refused(
    gateway: Gateway, upstream: Upstream, running: bool
) -> None:
    before, headers, go = len(upstream.seen), fresh(), asyncio.Event()
    upstream.next(wait_for(go), whole())
    first = asyncio.get_running_loop().create_task(gateway.chat(headers=headers))
    await came(upstream, before + 1)
    if not running:
        go.set()
        await first
    for fields in (
        {"stream": True},
        {"temperature": 0.5},
        {"messages": [{"role": "user", "content": "x"}]},
    ):
        assert_refused(await gateway.chat(headers=headers, **fields), 422, "idempotency_conflict")
    go.set()
    assert (await first).status == 200
    assert replayed(await gateway.chat(headers=headers))


async def test_another_tenant_has_keys_of_its_own(gateway: Gateway, upstream: Upstream) -> None:
    headers = fresh()
    upstream.next(whole("mine"))
    upstream.next(whole("theirs"))
    first = await gateway.chat(headers=headers)
    second = await gateway.ask(CHAT, chat(), headers=headers, key=OTHER_KEY)
    assert (replayed(first), replayed(second)) == (False, False)
    assert first.body != second.body


@pytest.mark.parametrize("stream", [True, False])
async def test_an_error_is_not_kept_and_the_second_tries(
    gateway: Gateway, upstream: Upstream, stream: bool
) -> None:
    before, headers, go = len(upstream.seen), fresh(), asyncio.Event()
    upstream.next(wait_for(go), send(answers.error_answer("400 Bad Request")))
    upstream.next(*(answers.stream(chat_stream(SAID)) if stream else [whole()]))
    first = asyncio.get_running_loop().create_task(gateway.chat(headers=headers, stream=stream))
    await came(upstream, before + 1)
    second = asyncio.get_running_loop().create_task(gateway.chat(headers=headers, stream=stream))
    await asyncio.sleep(0.1)
    go.set()
    assert (await first).status == 400
    answer = await second
    assert (answer.status, replayed(answer)) == (200, False)
    assert len(upstream.seen) == before + 2
    assert replayed(await gateway.chat(headers=headers, stream=stream))


async def test_a_cut_stream_is_not_kept(gateway: Gateway, upstream: Upstream) -> None:
    headers = fresh()
    cut = chat_stream(SAID, finish=None, usage=None, done=False)
    upstream.next(*answers.stream(cut))
    upstream.next(*answers.stream(chat_stream(SAID)))
    first = await gateway.chat(headers=headers, stream=True)
    assert b'"error"' in first.events[-1]
    second = await gateway.chat(headers=headers, stream=True)
    assert not replayed(second) and second.events[-1] == b"[DONE]"


async def test_when_the_first_leaves_the_second_takes_over(gateway: Gateway, upstream: Upstream) -> None:
    before, headers = len(upstream.seen), fresh()
    upstream.next(hang())
    upstream.next(whole("taken over"))
    async with gateway.client() as client:
        await client.send(request(CHAT, chat(), key=gateway.key, headers=headers))
        await came(upstream, before + 1)
        second = asyncio.get_running_loop().create_task(gateway.chat(headers=headers))
        await asyncio.sleep(0.1)
    answer = await second
    assert (answer.status, replayed(answer)) == (200, False)
    assert len(upstream.seen) == before + 2


async def test_who_waits_has_a_deadline_and_may_leave(gateway: Gateway, upstream: Upstream) -> None:
    before, headers, go = len(upstream.seen), fresh(), asyncio.Event()
    upstream.next(wait_for(go), whole())
    first = asyncio.get_running_loop().create_task(gateway.chat(headers=headers))
    await came(upstream, before + 1)
    async with gateway.client() as client:
        leaver = {**headers, "x-request-id": f"leaver-{before}"}
        await client.send(request(CHAT, chat(), key=gateway.key, headers=leaver))
        await asyncio.sleep(0.1)
    assert (await gateway.row(f"leaver-{before}"))["outcome"] == "client_gone"
    late = await gateway.chat(headers={**headers, "x-request-timeout-ms": "200"})
    assert_refused(late, 504, "deadline_exceeded")
    go.set()
    assert (await first).status == 200
    assert len(upstream.seen) == before + 1


@pytest.mark.parametrize(
    "key", ["", "two words", "x" * 257, "käse"], ids=["empty", "space", "long", "accent"]
)
async def test_a_key_that_is_none_is_refused(gateway: Gateway, key: str) -> None:
    answer = await gateway.chat(headers={"idempotency-key": key})
    assert_refused(answer, 400, "invalid_request")
    assert answer.json()["error"]["param"] == "idempotency-key"


async def test_a_large_answer_is_not_kept(gateway: Gateway, upstream: Upstream) -> None:
    headers = fresh()
    for _ in range(2):
        upstream.next(whole("x" * (1 << 20)))
        answer = await gateway.chat(headers=headers)
        assert answer.status == 200 and not replayed(answer)
