"""Streams that are cut after their first content and gone on with by another deployment."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import openai
import orjson
import pytest

from tests.e2e import routes
from tests.e2e.rig import CHAT, Gateway, chat, samples
from tests.e2e.routes import NEVER_OPEN, Attempts, Providers, pool, routing, said, whole
from tests.e2e.test_routing_streams import AFTER, BEGUN, FAULT, ROLE, assert_in_band
from tests.fakes.answers import (
    USAGE,
    chat_stream,
    chunk,
    error_answer,
    open_stream,
    stream,
    tool_start,
)
from tests.fakes.client import Answer, request
from tests.fakes.upstream import Step, hang, reset, send, wait

pytestmark = pytest.mark.asyncio(loop_scope="module")

upstream = routes.upstream
PREFILL = {"b": "message", "c": "prefix", "d": "vllm"}
CUT = (open_stream(*BEGUN), wait(0.05), reset())
WITH_USAGE: dict[str, Any] = {"stream_options": {"include_usage": True}}
USER = chat()["messages"]

NOT_TEXT: dict[str, tuple[list[bytes], dict[str, Any]]] = {
    "tool": ([*BEGUN, tool_start(0, "call-1", "f")], {}),
    "refusal": ([*BEGUN, chunk({"refusal": "no"})], {}),
    "reasoning-only": ([ROLE, chunk({"reasoning_content": "hm"})], {}),
    "spaces-only": ([ROLE, chunk({"content": " \n"})], {}),
    "finished": ([*BEGUN, chunk({}, finish="stop")], {}),
    "choices": (BEGUN, {"n": 2}),
    "logprobs": (BEGUN, {"logprobs": True}),
    "begun": (BEGUN, {"messages": [*USER, {"role": "assistant", "content": "x"}]}),
}


@pytest.fixture(scope="module")
def changes(upstream: Providers) -> dict[str, Any]:
    groups = {f"cut-{name}": pool("a", "b", on_cut="continue") for name in AFTER}
    quick = {"attempts": 2, "backoff_s": 0.02, "backoff_max_s": 0.05}
    able: dict[str, Any] = {"breaker": NEVER_OPEN, "on_cut": "continue"}
    groups |= {
        "able": pool("a", "b", **able),
        "kinds": pool("a", "c", "d", **able),
        "then": pool("b", breaker=NEVER_OPEN),
        "falls-back": pool("a", fallbacks=["then"], **able),
        "itself": pool("b", **able),
        "nobody": pool("a", "a", **able),
        "fails": pool("a", "b", breaker=NEVER_OPEN),
        "three": pool("a", "b", "c", **able),
        "two": pool("a", "b", "c", retry=quick, **able),
        "one": pool("a", "b", retry={"attempts": 1}, **able),
    }
    settings = routing(upstream, groups, d=f"{upstream.url}/v1")
    for name, prefill in PREFILL.items():
        settings["providers"][name]["prefill"] = prefill
    return settings


def more(*texts: str, **fields: Any) -> list[Step]:
    """How another provider goes on, under an id of its own."""
    events = [chunk({"role": "assistant", "content": ""}, id="chatcmpl-other", created=1, **fields)]
    events += [chunk({"content": text}, id="chatcmpl-other", created=1, **fields) for text in texts]
    events += [chunk({}, finish="stop", id="chatcmpl-other"), chunk(None, usage=USAGE, id="chatcmpl-other")]
    return stream([*events, b"data: [DONE]\n\n"])


def natives(answer: Answer) -> list[Any]:
    return [orjson.loads(raw) for raw in answer.events if raw != b"[DONE]"]


def text_of(answer: Answer) -> str:
    choices = [choice for native in natives(answer) for choice in native.get("choices", ())]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


async def row_of(gateway: Gateway, answer: Answer) -> dict[str, Any]:
    return await gateway.row(answer.header("x-request-id") or "")


def attempts(row: dict[str, Any]) -> Attempts:
    return [(one["deployment"], one["outcome"]) for one in row["attempts"]]


def joins(row: dict[str, Any]) -> list[tuple[str, int]]:
    return [(one["deployment"], one["after_bytes"]) for one in row["joins"]]


@pytest.mark.parametrize("name", AFTER)
async def test_a_cut_answer_goes_on(gateway: Gateway, upstream: Providers, name: str) -> None:
    steps, code = AFTER[name]
    upstream.once(f"cut-{name}-1", *steps)
    upstream.once(f"cut-{name}-2", *more(" three", " four", system_fingerprint="fp"))
    got = await gateway.chat(model=f"cut-{name}", stream=True)
    assert said(got) == "one two three four"
    assert b"".join(got.events).count(b'"role"') == 1
    assert {(one["id"], one["created"]) for one in natives(got)} == {("chatcmpl-fake", 1_700_000_000)}
    assert not any("system_fingerprint" in one or one.get("usage") for one in natives(got))
    body = upstream.last.json()
    assert body["messages"] == [*USER, {"role": "assistant", "content": "one two"}]
    row = await row_of(gateway, got)
    assert (row["outcome"], row["error_code"], row["cost_source"]) == ("ok", None, "estimated")
    assert attempts(row) == [(f"cut-{name}-1", code), (f"cut-{name}-2", "ok")]
    assert joins(row) == [(f"cut-{name}-2", 7)]
    assert row["charged_usd"] == row["cost_usd"]


@pytest.mark.parametrize("counted", [True, False])
async def test_usage_and_cost_are_those_of_both(
    gateway: Gateway, upstream: Providers, counted: bool
) -> None:
    known: dict[str, Any] = {"usage": {"prompt_tokens": 11, "completion_tokens": 2}} if counted else {}
    upstream.once("able-1", open_stream(ROLE, chunk({"content": "one two"}, **known)), wait(0.05), reset())
    upstream.once("able-2", *more(" three"))
    got = await gateway.chat(model="able", stream=True, **WITH_USAGE)
    assert said(got) == "one two three"
    (usage,) = [one["usage"] for one in natives(got) if one["choices"] == []]
    row = await row_of(gateway, got)
    spent = row["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (
        spent["input_tokens"],
        spent["output_tokens"],
    )
    if counted:
        assert (spent["input_tokens"], spent["output_tokens"]) == (22, 9)
    assert row["cost_source"] == ("provider" if counted else "estimated")
    cost = Decimal(spent["input_tokens"]) * Decimal("2.5e-6") + Decimal(spent["output_tokens"]) * Decimal(
        "1e-5"
    )
    assert Decimal(row["cost_usd"]) == Decimal(row["charged_usd"]) == cost


async def test_usage_is_told_where_who_goes_on_counts_nothing(
    gateway: Gateway, upstream: Providers
) -> None:
    upstream.once("able-1", *CUT)
    upstream.once("able-2", *stream(chat_stream([" three"], usage=None)))
    got = await gateway.chat(model="able", stream=True, **WITH_USAGE)
    (usage,) = [one["usage"] for one in natives(got) if one["choices"] == []]
    spent = (await row_of(gateway, got))["usage"]
    assert usage["completion_tokens"] == spent["output_tokens"] == 4  # of 7 and of 6 bytes


async def test_each_provider_is_asked_in_its_own_way(gateway: Gateway, upstream: Providers) -> None:
    upstream.once("kinds-1", *CUT)
    upstream.once("kinds-2", open_stream(ROLE, chunk({"content": " thr"})), wait(0.05), reset())
    upstream.once("kinds-3", *more("ee"))
    got = await gateway.chat(model="kinds", stream=True, max_tokens=50)
    assert said(got) == "one two three"
    first, second, third = (seen.json() for seen in upstream.seen[-3:])
    assert first["messages"] == USER
    assert second["messages"][-1] == {"role": "assistant", "content": "one two", "prefix": True}
    assert third["messages"][-1] == {"role": "assistant", "content": "one two thr"}
    assert (third["continue_final_message"], third["add_generation_prompt"]) == (True, False)
    assert first["max_tokens"] == 50 > second["max_tokens"] > third["max_tokens"]
    assert joins(await row_of(gateway, got)) == [("kinds-2", 7), ("kinds-3", 11)]


@pytest.mark.parametrize(
    ("texts", "complete"),
    [
        (["one two", " three"], "one two three"),
        (["one", " t", "wo three"], "one two three"),
        ([" one two"], "one two one two"),
        (["one", " two-fold"], "one two-fold"),
        (["one", " t"], "one twoone t"),
        (["one to three"], "one twoone to three"),
        (["one two"], "one two"),
    ],
)
async def test_an_echo_of_the_beginning_is_dropped(
    gateway: Gateway, upstream: Providers, texts: list[str], complete: str
) -> None:
    upstream.once("able-1", *CUT)
    upstream.once("able-2", *more(*texts))
    assert said(await gateway.chat(model="able", stream=True)) == complete


async def test_white_space_at_the_cut_is_not_doubled(gateway: Gateway, upstream: Providers) -> None:
    upstream.once("able-1", open_stream(ROLE, chunk({"content": "one \n"})), wait(0.05), reset())
    upstream.once("able-2", *more(" ", "\ntwo"))
    assert said(await gateway.chat(model="able", stream=True)) == "one \ntwo"
    assert upstream.last.json()["messages"][-1]["content"] == "one"


async def test_a_body_goes_on_with_a_stream(gateway: Gateway, upstream: Providers) -> None:
    upstream.once("able-1", *CUT)
    upstream.once("able-2", *whole(False, "one two three"))
    got = await gateway.chat(model="able", stream=True)
    assert said(got) == "one two three"
    assert b"".join(got.events).count(b'"role"') == 1


async def test_a_fallback_group_goes_on(gateway: Gateway, upstream: Providers) -> None:
    upstream.once("falls-back-1", *CUT)
    upstream.once("then-1", *more(" three"))
    got = await gateway.chat(model="falls-back", stream=True)
    assert said(got) == "one two three"
    assert joins(await row_of(gateway, got)) == [("then-1", 7)]


async def test_who_was_cut_goes_on_itself_where_nobody_else_can(
    gateway: Gateway, upstream: Providers
) -> None:
    upstream.once("itself-1", *CUT)
    upstream.once("itself-1", *more(" three"))
    got = await gateway.chat(model="itself", stream=True)
    assert said(got) == "one two three"
    assert joins(await row_of(gateway, got)) == [("itself-1", 7)]


@pytest.mark.parametrize("group", ["nobody", "fails", "one"])
async def test_where_nobody_may_go_on_it_fails_as_ever(
    gateway: Gateway, upstream: Providers, group: str
) -> None:
    upstream.once(f"{group}-1", *CUT)
    got = await gateway.chat(model=group, stream=True)
    assert_in_band(got, "upstream_error")
    row = await row_of(gateway, got)
    assert (row["outcome"], attempts(row), row["joins"]) == (
        "partial",
        [(f"{group}-1", "upstream_error")],
        [],
    )


@pytest.mark.parametrize("name", NOT_TEXT)
async def test_what_is_not_one_text_fails_as_ever(gateway: Gateway, upstream: Providers, name: str) -> None:
    events, asked = NOT_TEXT[name]
    upstream.once("able-1", open_stream(*events), wait(0.05), reset())
    got = await gateway.chat(model="able", stream=True, **asked)
    assert orjson.loads(got.events[-1])["error"]["code"] == "upstream_error"
    assert len(got.events) == len(events) + 1
    row = await row_of(gateway, got)
    assert (row["outcome"], len(row["attempts"]), row["joins"]) == ("partial", 1, [])


async def test_a_tool_call_may_come_after_the_join(gateway: Gateway, upstream: Providers) -> None:
    upstream.once("able-1", *CUT)
    events = [ROLE, tool_start(0, "call-1", "f"), chunk({}, finish="tool_calls"), b"data: [DONE]\n\n"]
    upstream.once("able-2", *stream(events))
    got = await gateway.chat(model="able", stream=True)
    (call,) = [c for one in natives(got) for c in one["choices"][0]["delta"].get("tool_calls", ())]
    assert (call["id"], got.events[-1]) == ("call-1", b"[DONE]")


@pytest.mark.parametrize(
    "refusal",
    [
        [send(error_answer("400 Bad Request", message="Prefill is not supported."))],
        [send(error_answer("500 Internal Server Error"))],
        stream([ROLE, FAULT]),
        [open_stream(ROLE, chunk({"content": "one"})), wait(0.05), reset()],
    ],
    ids=["rejected", "broken", "error", "cut-in-its-echo"],
)
async def test_who_cannot_go_on_is_passed_over(
    gateway: Gateway, upstream: Providers, refusal: list[Step]
) -> None:
    """And when nobody is left, the client is told what cut its answer."""
    upstream.once("three-1", *CUT)
    upstream.once("three-2", *refusal)
    upstream.once("three-3", *more(" three"))
    got = await gateway.chat(model="three", stream=True)
    assert said(got) == "one two three"
    row = await row_of(gateway, got)
    assert (len(row["attempts"]), joins(row)) == (3, [("three-3", 7)])

    upstream.once("two-1", open_stream(*BEGUN), hang())
    upstream.once("two-2", *refusal)
    got = await gateway.chat(model="two", stream=True)
    assert_in_band(got, "upstream_timeout")
    assert text_of(got) == "one two"
    row = await row_of(gateway, got)
    assert (row["outcome"], row["error_code"], row["deployment"]) == (
        "partial",
        "upstream_timeout",
        "two-1",
    )
    assert (len(row["attempts"]), row["joins"]) == (2, [])


@pytest.mark.parametrize("group", ["two", "three"])
async def test_when_all_are_cut_the_last_cut_is_told(
    gateway: Gateway, upstream: Providers, group: str
) -> None:
    calls = {"two": 2, "three": 3}[group]
    for position in range(1, calls + 1):
        upstream.once(f"{group}-{position}", open_stream(ROLE, chunk({"content": f"{position}."})), hang())
    before = len(upstream.seen)
    got = await gateway.chat(model=group, stream=True, **WITH_USAGE)
    assert_in_band(got, "upstream_timeout")
    assert text_of(got) == "1.2.3."[: 2 * calls]
    assert len(upstream.seen) - before == calls
    row = await row_of(gateway, got)
    assert (row["outcome"], len(row["attempts"]), len(row["joins"])) == ("partial", calls, calls - 1)
    assert row["charged_usd"] == row["cost_usd"]


async def test_an_openai_client_sees_one_complete_stream(gateway: Gateway, upstream: Providers) -> None:
    upstream.once("able-1", *CUT)
    upstream.once("able-2", *more("one two", " three"))
    async with openai.AsyncOpenAI(
        base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0
    ) as client:
        messages: Any = USER
        async with client.chat.completions.stream(
            model="able", messages=messages, stream_options={"include_usage": True}
        ) as events:
            final = await events.get_final_completion()
    (choice,) = final.choices
    assert (choice.message.content, choice.finish_reason) == ("one two three", "stop")
    assert (choice.message.role, final.id) == ("assistant", "chatcmpl-fake")
    assert final.usage is not None and final.usage.completion_tokens == 2 + 7


async def test_a_client_that_leaves_while_another_goes_on(gateway: Gateway, upstream: Providers) -> None:
    upstream.once("able-1", *CUT)
    upstream.once("able-2", open_stream(ROLE, chunk({"content": " three"})), hang())
    async with gateway.client() as client:
        await client.send(request(CHAT, chat(model="able", stream=True), key=gateway.key))
        answer = await client.read_head()
        while (event := await client.read_event()) is not None and b"three" not in event:
            pass
    await upstream.last.left(within_s=2.0)
    row = await row_of(gateway, answer)
    assert (row["outcome"], joins(row)) == ("client_gone", [("able-2", 7)])
    assert attempts(row) == [("able-1", "upstream_error"), ("able-2", "left")]
    assert row["charged_usd"] == row["cost_usd"]


async def test_metrics_count_both_attempts_once(gateway: Gateway, upstream: Providers) -> None:
    async def count(deployment: str, outcome: str) -> float:
        found = samples(await gateway.metrics())["gateway_upstream_attempts_total"]
        wanted = {"deployment": deployment, "outcome": outcome}
        return sum(value for labels, value in found if wanted.items() <= labels.items())

    before = await asyncio.gather(count("able-1", "upstream_error"), count("able-2", "ok"))
    upstream.once("able-1", *CUT)
    upstream.once("able-2", *more(" three"))
    await row_of(gateway, await gateway.chat(model="able", stream=True))
    after = await asyncio.gather(count("able-1", "upstream_error"), count("able-2", "ok"))
    assert [b - a for a, b in zip(before, after, strict=True)] == [1, 1]
