"""Streamed answers under redaction: nothing slips through a cut, and nothing waits longer than it must."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import orjson
import pytest

from tests.e2e import routes
from tests.e2e.redacting import (
    EMAIL,
    MADE_UP,
    MASK,
    PHONE,
    RESTORE,
    ask,
    counted,
    heard,
    key_of,
    policies,
    row_of,
    user,
)
from tests.e2e.refusals import assert_refused
from tests.e2e.rig import CHAT, Gateway, chat
from tests.e2e.routes import NEVER_OPEN, Providers, pool, routing, said
from tests.fakes import answers
from tests.fakes.answers import DONE, USAGE, chat_stream, chunk, chunked, open_stream, stream
from tests.fakes.client import Answer, request
from tests.fakes.upstream import Step, fin, hang, reset, send, wait, wait_for

pytestmark = pytest.mark.asyncio(loop_scope="module")

upstream = routes.upstream

HEADER = "x-gateway-redaction"
MODEL = "g-1"
SAID = f"You are [EMAIL_ADDRESS_1]; she is {MADE_UP}, at {PHONE} now."
RESTORED = f"You are {EMAIL}; she is [EMAIL_ADDRESS_2], at [PHONE_NUMBER_1] now."
MASKED = "You are [EMAIL_ADDRESS_1]; she is [EMAIL_ADDRESS_2], at [PHONE_NUMBER_1] now."
TOLD = {"restores": RESTORED, "masks": MASKED}
I_AM = f"I am {EMAIL}."


@pytest.fixture(scope="module")
def changes(upstream: Providers) -> dict[str, Any]:
    configured = policies(
        masks=MASK,
        restores={**RESTORE, "deny": ['the "Fox" plan']},
        blocks={**MASK, "actions": {"PHONE_NUMBER": "block"}},
        passes={**RESTORE, "uncovered": "pass"},
        lenient={**MASK, "models": {"house": {"mode": "flag"}, "goes-on": {"mode": "flag"}}},
        silent={"mode": "off", "models": {"g": MASK}},
    )
    groups = {
        "g": pool("a", retry={"attempts": 1}, breaker=NEVER_OPEN),
        "goes-on": pool("a", "b", on_cut="continue", breaker=NEVER_OPEN),
        "house": pool("a", retry={"attempts": 2}, breaker=NEVER_OPEN, fallbacks=["g"]),
    }
    settings = routing(upstream, groups)
    settings["providers"]["b"]["prefill"] = "message"
    return {**configured, **settings}


async def listen(gateway: Gateway, name: str, text: str = I_AM, **fields: Any) -> Answer:
    return await ask(gateway, name, text, **{"model": "g", "stream": True, **fields})


def pieces(text: str, *cuts: int) -> list[str]:
    ends = (*cuts, len(text))
    return [text[begin:end] for begin, end in zip((0, *cuts), ends, strict=True)]


def assert_complete(answer: Answer, told: str) -> None:
    """``said`` checks the one finish_reason and the end; here that the usage, where asked for, is there."""
    assert said(answer) == told
    assert MADE_UP.encode() not in b"".join(answer.events)


@pytest.mark.parametrize("name", TOLD)
async def test_cut_at_every_position(gateway: Gateway, upstream: Providers, name: str) -> None:
    for cut in range(1, len(SAID)):
        upstream.once(MODEL, *stream(chat_stream(pieces(SAID, cut))))
        answer = await listen(gateway, name, stream_options={"include_usage": True})
        assert_complete(answer, TOLD[name])
        assert orjson.loads(answer.events[-2])["usage"] == USAGE
        assert answer.header(HEADER) == "input=mask:1;output=stream"


@pytest.mark.parametrize("size", [1, 2, 5])
@pytest.mark.parametrize("name", TOLD)
async def test_cut_into_small_pieces(gateway: Gateway, upstream: Providers, name: str, size: int) -> None:
    """Of the text, and of the bytes on the wire."""
    texts = pieces(SAID, *range(size, len(SAID), size))
    upstream.once(MODEL, *stream(chat_stream(texts), size=size))
    assert_complete(await listen(gateway, name), TOLD[name])


async def test_a_value_is_cut_twice(gateway: Gateway, upstream: Providers) -> None:
    begin = SAID.index(MADE_UP)
    for first in range(begin, begin + len(MADE_UP), 3):
        for second in range(first + 1, begin + len(MADE_UP) + 2, 4):
            upstream.once(MODEL, *stream(chat_stream(pieces(SAID, first, second))))
            assert_complete(await listen(gateway, "restores"), RESTORED)


@pytest.mark.parametrize("last", [MADE_UP, "[EMAIL_ADDRESS_1]", "[EMAIL_ADDRESS_", "["])
async def test_what_is_held_back_at_the_end_goes_out(
    gateway: Gateway, upstream: Providers, last: str
) -> None:
    shown = {MADE_UP: "[EMAIL_ADDRESS_2]", "[EMAIL_ADDRESS_1]": EMAIL}.get(last, last)
    for cut in (1, len(last) // 2 or 1):
        upstream.once(MODEL, *stream(chat_stream(["It is ", last[:cut], last[cut:]])))
        answer = await listen(gateway, "restores")
        assert_complete(answer, f"It is {shown}")


async def test_the_finish_comes_after_all_text(gateway: Gateway, upstream: Providers) -> None:
    """Also where the provider puts both into one chunk, and sends no usage and no [DONE] of its own."""
    events = [chunk({"role": "assistant", "content": ""}), chunk({"content": "made.up@ex"})]
    events += [chunk({"content": "ample.org"}, finish="stop"), DONE]
    upstream.once(MODEL, *stream(events))
    answer = await listen(gateway, "restores")
    assert_complete(answer, "[EMAIL_ADDRESS_2]")
    finishes = [orjson.loads(raw)["choices"][0]["finish_reason"] for raw in answer.events[:-1]]
    assert finishes.index("stop") == len(finishes) - 1


async def test_what_follows_the_finish(gateway: Gateway, upstream: Providers) -> None:
    begin, rest = MADE_UP[:9], MADE_UP[9:]
    late = [chunk({"content": begin}), chunk({}, finish="stop"), chunk({"content": f"{rest} it is."})]
    upstream.once(MODEL, *stream([*late, DONE]))
    answer = await listen(gateway, "masks")
    assert heard(answer) == f"{begin}[EMAIL_ADDRESS_2] it is."


async def test_a_chunk_that_is_nested_too_deeply(gateway: Gateway, upstream: Providers) -> None:
    deep = b"[" * 900 + b"1" + b"]" * 900
    event = chunk({"content": "x"}, deep="~").replace(b'"~"', deep)
    upstream.once(MODEL, *stream([event, chunk({}, finish="stop"), DONE]))
    assert_refused(await listen(gateway, "masks"), 503, "redaction_unavailable")


async def test_images_and_audio_are_counted(gateway: Gateway, upstream: Providers) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    events = [chunk({"content": "Here: ", "images": [image]})]
    events += [chunk({"audio": {"id": "a", "data": "AAAA"}}) for _ in range(3)]
    upstream.once(MODEL, *stream([*events, chunk({}, finish="stop"), DONE]))
    answer = await listen(gateway, "masks")
    assert said(answer) == "Here: "
    assert (await row_of(gateway, answer))["redactions"]["skipped"] == {"image_url": 1, "audio": 1}


async def test_counts_and_row_of_a_stream(gateway: Gateway, upstream: Providers) -> None:
    labels = {"tenant": "masks", "entity": "PHONE_NUMBER", "direction": "output"}
    before = await counted(gateway, "gateway_redactions_total", **labels)
    upstream.once(MODEL, *stream(chat_stream(list(SAID))))
    row = await row_of(gateway, await listen(gateway, "masks"))
    found = {"EMAIL_ADDRESS": 1, "PHONE_NUMBER": 1}
    assert row["redactions"] == {"input": {"EMAIL_ADDRESS": 1}, "output": found}
    assert await counted(gateway, "gateway_redactions_total", **labels) == before + 1


ARGUMENTS = '{"to": "[EMAIL_ADDRESS_1]", "cc": "made.up@example.org", "about": "[DENY_LIST_1]\\n"}'
MEANT = {"to": EMAIL, "cc": "[EMAIL_ADDRESS_2]", "about": 'the "Fox" plan\n'}


def arguments_of(answer: Answer, call: int) -> str:
    told = ""
    for raw in answer.events[:-1]:
        for choice in orjson.loads(raw)["choices"]:
            for part in choice["delta"].get("tool_calls") or ():
                if part["index"] == call:
                    told += part["function"].get("arguments") or ""
    return told


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
async def test_arguments_of_tool_calls_stay_json(gateway: Gateway, upstream: Providers, size: int) -> None:
    """Two calls at a time, piece by piece."""
    events = [chunk({"role": "assistant", "content": None})]
    events += [answers.tool_start(0, "call_a", "mail"), answers.tool_start(1, "call_b", "mail")]
    for piece in pieces(ARGUMENTS, *range(size, len(ARGUMENTS), size)):
        events += [answers.tool_args(0, piece), answers.tool_args(1, piece)]
    upstream.once(MODEL, *stream([*events, chunk({}, finish="tool_calls"), DONE]))
    answer = await listen(gateway, "restores", f'I am {EMAIL}, about the "Fox" plan.')
    assert answer.events[-1] == b"[DONE]"
    assert b"made.up" not in b"".join(answer.events)
    for call in (0, 1):
        assert orjson.loads(arguments_of(answer, call)) == MEANT


async def test_arguments_of_a_function_call(gateway: Gateway, upstream: Providers) -> None:
    """The form before tool calls."""
    events = [chunk({"role": "assistant", "function_call": {"name": "mail", "arguments": ""}})]
    events += [chunk({"function_call": {"arguments": letter}}) for letter in ARGUMENTS]
    upstream.once(MODEL, *stream([*events, chunk({}, finish="function_call"), DONE]))
    answer = await listen(gateway, "restores", f'I am {EMAIL}, about the "Fox" plan.')
    choices = [choice for raw in answer.events[:-1] for choice in orjson.loads(raw)["choices"]]
    calls = [choice["delta"].get("function_call") or {} for choice in choices]
    assert orjson.loads("".join(call.get("arguments", "") for call in calls)) == MEANT
    assert [call["name"] for call in calls if call.get("name")] == ["mail"]


async def test_an_escape_in_arguments_hides_nothing(gateway: Gateway, upstream: Providers) -> None:
    written = '{"cc":"made.up\\u0040example.org"}'
    for cut in range(1, len(written)):
        events = [answers.tool_start(0, "call_a", "mail")]
        events += [answers.tool_args(0, piece) for piece in pieces(written, cut)]
        upstream.once(MODEL, *stream([*events, chunk({}, finish="tool_calls"), DONE]))
        answer = await listen(gateway, "masks")
        assert orjson.loads(arguments_of(answer, 0)) == {"cc": "[EMAIL_ADDRESS_2]"}


async def test_two_choices(gateway: Gateway, upstream: Providers) -> None:
    """Each has a text of its own, and ends by itself."""
    other = f"Ask {MADE_UP}"
    events: list[bytes] = []
    for place in range(max(len(SAID), len(other))):
        for index, text in enumerate((SAID, other)):
            if place < len(text):
                events.append(chunk({"content": text[place]}, index=index))
    events += [chunk({}, index=index, finish="stop") for index in (1, 0)]
    upstream.once(MODEL, *stream([*events, chunk(None, usage=USAGE), DONE]))
    answer = await listen(gateway, "restores", n=2)
    assert answer.events[-1] == b"[DONE]"
    assert (heard(answer, 0), heard(answer, 1)) == (RESTORED, "Ask [EMAIL_ADDRESS_2]")


@pytest.mark.parametrize("field", ["reasoning_content", "refusal"])
async def test_other_texts_of_a_delta(gateway: Gateway, upstream: Providers, field: str) -> None:
    events = [chunk({"role": "assistant"}), *(chunk({field: letter}) for letter in SAID)]
    events += [chunk({"content": "Done."}), chunk({}, finish="stop"), DONE]
    upstream.once(MODEL, *stream(events))
    answer = await listen(gateway, "restores")
    assert heard(answer, 0, field) == RESTORED
    assert said(answer) == "Done."


async def test_streamed_completions(gateway: Gateway, upstream: Providers) -> None:
    def piece(text: str) -> bytes:
        choice = {"index": 0, "text": text, "finish_reason": None, "logprobs": None}
        return answers.event({**answers.completion_body(text), "usage": None, "choices": [choice]})

    ended = answers.event({**answers.completion_body(""), "usage": None})
    upstream.once(MODEL, *stream([*map(piece, SAID), ended, DONE]))
    answer = await ask(gateway, "restores", path="/v1/completions", model="g", stream=True, prompt=I_AM)
    natives = [orjson.loads(raw) for raw in answer.events[:-1]]
    assert "".join(native["choices"][0]["text"] for native in natives) == RESTORED
    assert answer.events[-1] == b"[DONE]"


async def test_log_probabilities_pass_where_they_may(gateway: Gateway, upstream: Providers) -> None:
    def piece(text: str) -> bytes:
        choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
        return answers.event({"choices": [{**choice, "logprobs": {"content": [{"token": text}]}}]})

    upstream.once(MODEL, *stream([piece("one "), piece("two"), chunk({}, finish="stop"), DONE]))
    answer = await listen(gateway, "passes", logprobs=True)
    assert said(answer) == "one two"
    natives = [orjson.loads(raw) for raw in answer.events[:-1]]
    tokens = [
        entry["token"]
        for native in natives
        for choice in native["choices"]
        for entry in (choice.get("logprobs") or {}).get("content", ())
    ]
    assert tokens == ["one ", "two"]


@pytest.mark.parametrize("name", TOLD)
async def test_text_goes_out_as_it_comes(gateway: Gateway, upstream: Providers, name: str) -> None:
    """What the provider has not sent yet cannot be waited for: it goes on when the client has heard it."""
    go, more = asyncio.Event(), asyncio.Event()
    upstream.once(
        MODEL,
        open_stream(chunk({"role": "assistant"}), chunk({"content": "One sentence is complete. Tw"})),
        wait_for(go),
        send(chunked([chunk({"content": "o is as well, and it goes on. "})], end=False)),
        wait_for(more),
        send(chunked([chunk({"content": "Bye."}), chunk({}, finish="stop"), DONE])),
    )
    async with gateway.client() as client:
        body = chat(model="g", stream=True, messages=user(I_AM))
        await client.send(request(CHAT, body, key=key_of(name)))
        answer = await client.read_head()

        async def until(words: str) -> None:
            while words not in heard(answer):
                event = await client.read_event()
                assert event is not None
                answer.events.append(event)

        await until("One sentence is")
        go.set()
        await until("Two is as well")
        more.set()
        while (event := await client.read_event()) is not None:
            answer.events.append(event)
    assert said(answer) == "One sentence is complete. Two is as well, and it goes on. Bye."


@pytest.mark.parametrize("end", [fin(), reset()], ids=["fin", "reset"])
@pytest.mark.parametrize("held", ["made.up@exam", MADE_UP, "[EMAIL_ADDRESS_"])
async def test_a_cut_lets_nothing_out(gateway: Gateway, upstream: Providers, held: str, end: Step) -> None:
    events = [chunk({"content": "Here is what I know. "}), chunk({"content": held})]
    upstream.once(MODEL, open_stream(*events), wait(0.02), end)
    answer = await listen(gateway, "restores")
    assert answer.status == 200
    assert orjson.loads(answer.events[-1])["error"]["code"] == "upstream_error"
    assert b"made.up" not in b"".join(answer.events)
    assert (await row_of(gateway, answer))["outcome"] == "partial"


@pytest.mark.parametrize("size", [1, 9, 100])
async def test_block_ends_a_stream(gateway: Gateway, upstream: Providers, size: int) -> None:
    rest = f"that is better: {PHONE} and then some more."
    texts = pieces(rest, *range(size, len(rest), size))
    begun = open_stream(chunk({"role": "assistant"}), chunk({"content": "Call me. Surely, "}))
    events = [*(chunk({"content": text}) for text in texts), chunk({}, finish="stop"), DONE]
    upstream.once(MODEL, begun, wait(0.05), send(chunked(events)))
    answer = await listen(gateway, "blocks", "How?")
    assert answer.status == 200
    error = orjson.loads(answer.events[-1])["error"]
    assert error["code"] == "redaction_blocked" and "PHONE_NUMBER" in error["message"]
    told = b"".join(answer.events)
    assert b"[DONE]" not in told and b'"stop"' not in told and b"555" not in told
    row = await row_of(gateway, answer)
    assert (row["outcome"], row["error_code"]) == ("partial", "redaction_blocked")
    assert row["redactions"] == {"output": {"PHONE_NUMBER": 1}, "blocked": "PHONE_NUMBER"}


async def test_block_before_anything_was_said(gateway: Gateway, upstream: Providers) -> None:
    upstream.once(MODEL, *stream(chat_stream([f"{PHONE} is my number."])))
    answer = await listen(gateway, "blocks", "How?")
    told = b"".join(answer.events) + answer.body
    assert b"redaction_blocked" in told and b"555" not in told


async def test_a_provider_leaves_after_a_block(gateway: Gateway, upstream: Providers) -> None:
    """It is not read on when nobody may hear it."""
    events = [chunk({"content": f"Call {PHONE}, please. "}), chunk({"content": "Do."})]
    upstream.once(MODEL, open_stream(*events), hang())
    answer = await listen(gateway, "blocks", "How?")
    assert b"redaction_blocked" in b"".join(answer.events) + answer.body
    await upstream.last.left(1.0)


def more(*texts: str) -> list[Step]:
    """How another provider goes on, under an id of its own."""
    other: dict[str, Any] = {"id": "chatcmpl-other", "created": 1}
    events = [chunk({"role": "assistant", "content": ""}, **other)]
    events += [chunk({"content": text}, **other) for text in texts]
    return stream([*events, chunk({}, finish="stop", **other), chunk(None, usage=USAGE, **other), DONE])


BEGUN: Sequence[tuple[str, str]] = [
    ("Dear [EMAIL_ADD", "RESS_1], ask made.up@example.org."),
    ("Dear [EMAIL_ADDRESS_1], ask made.up@exa", "mple.org."),
]


@pytest.mark.parametrize(("before", "after"), BEGUN, ids=["placeholder", "value"])
async def test_an_answer_that_another_goes_on_with(
    gateway: Gateway, upstream: Providers, before: str, after: str
) -> None:
    """A placeholder and a value that two providers write together; neither is told what they stand for."""
    begun = [chunk({"role": "assistant", "content": ""}), chunk({"content": before})]
    upstream.once("goes-on-1", open_stream(*begun), wait(0.05), reset())
    upstream.once("goes-on-2", *more(after))
    answer = await listen(gateway, "restores", model="goes-on")
    assert said(answer) == f"Dear {EMAIL}, ask [EMAIL_ADDRESS_2]."
    assert EMAIL.encode() not in upstream.last.body
    row = await row_of(gateway, answer)
    assert [one["deployment"] for one in row["attempts"]] == ["goes-on-1", "goes-on-2"]
    assert len(row["joins"]) == 1


async def test_nobody_goes_on_with_what_must_not_pass(gateway: Gateway, upstream: Providers) -> None:
    """What one provider has made up is not told another."""
    before = upstream.calls("goes-on-2")
    begun = [chunk({"role": "assistant", "content": ""}), chunk({"content": f"Ask {MADE_UP} or"})]
    upstream.once("goes-on-1", open_stream(*begun), wait(0.05), reset())
    answer = await listen(gateway, "restores", model="goes-on")
    assert upstream.calls("goes-on-2") == before
    assert heard(answer).startswith("Ask [EMAIL_ADDRESS_2]")
    assert b"upstream_error" in answer.events[-1]
    assert (await row_of(gateway, answer))["outcome"] == "partial"


async def test_a_fallback_is_protected_by_its_own_policy(gateway: Gateway, upstream: Providers) -> None:
    """What may be sent to one group is treated as the strictest of all groups that it may reach."""
    failing = answers.error_answer("503 Service Unavailable")
    for name in ("lenient", "silent"):
        upstream.once("house-1", send(failing))
        upstream.once(MODEL, send(answers.json_answer(answers.chat_body("fine"))))
        answer = await ask(gateway, name, I_AM, model="house")
        assert answer.status == 200
        assert answer.header("x-gateway-model") == "g"
        assert answer.header(HEADER) == "input=mask:1;output=clean"
        assert EMAIL.encode() not in b"".join(seen.body for seen in upstream.seen)
    upstream.once("goes-on-1", send(answers.json_answer(answers.chat_body("fine"))))
    answer = await ask(gateway, "silent", I_AM, model="goes-on")
    assert answer.header(HEADER) is None


async def test_a_user_has_one_name_at_all_models(gateway: Gateway, upstream: Providers) -> None:
    names = set()
    for model in ("g", "house", "goes-on"):
        upstream.once(f"{model}-1", send(answers.json_answer(answers.chat_body("fine"))))
        answer = await ask(gateway, "lenient", "Hi", model=model, headers={"x-gateway-user": EMAIL})
        names.add((await row_of(gateway, answer))["user"])
    assert len(names) == 1
    assert names.pop().startswith("[EMAIL_ADDRESS_")


async def test_an_error_before_a_stream(gateway: Gateway, upstream: Providers) -> None:
    upstream.once(MODEL, send(answers.error_answer("500 Internal Server Error")))
    answer = await listen(gateway, "masks")
    assert answer.status == 502
    assert (answer.header(HEADER) or "").startswith("input=mask:1;output=")


async def test_a_buffered_answer_to_who_asked_for_events(gateway: Gateway, upstream: Providers) -> None:
    upstream.once(MODEL, send(answers.json_answer(answers.chat_body(SAID))))
    assert_complete(await listen(gateway, "restores"), RESTORED)
    upstream.once(MODEL, *stream(chat_stream(list(SAID))))
    answer = await ask(gateway, "restores", I_AM, model="g")
    assert answer.json()["choices"][0]["message"]["content"] == RESTORED
