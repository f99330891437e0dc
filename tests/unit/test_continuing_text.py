"""Text behind a seam: an echo goes, everything else stays."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gateway.calls.delivered import MAX_TEXT_BYTES, Delivered, may_go_on
from gateway.calls.echo import Echo
from gateway.calls.seam import Seam
from gateway.events import Frame, Usage
from gateway.exchange import ModelRequest, Operation
from gateway.formats import openai
from gateway.providers.prefill import Prefill, continued, sent_of

LETTERS = st.text(alphabet="ab \n", max_size=8)
TEXT = st.one_of(LETTERS, st.text(max_size=20))
SIZES = st.lists(st.integers(0, 4), max_size=40)
BEGUN = {"role": "assistant", "content": "x"}
USER = {"role": "user", "content": "hi"}


def pieces(text: str, sizes: list[int]) -> list[str]:
    found = []
    for size in sizes:
        found.append(text[:size])
        text = text[size:]
    return [*found, text]


def shown(echo: Echo, text: str, sizes: list[int]) -> str:
    return "".join(map(echo.feed, pieces(text, sizes))) + echo.flush()


@given(TEXT, TEXT, SIZES)
def test_a_continuation_is_shown_whole(delivered: str, more: str, sizes: list[int]) -> None:
    assume(not delivered or not more.startswith(delivered))
    assert shown(Echo(delivered), more, sizes) == more


@given(TEXT, TEXT, SIZES)
def test_an_echo_is_not_shown_again(delivered: str, more: str, sizes: list[int]) -> None:
    assert shown(Echo(delivered), delivered + more, sizes) == more


@given(TEXT, TEXT, SIZES, st.booleans(), st.booleans())
def test_white_space_that_was_not_sent_comes_once(
    delivered: str, more: str, sizes: list[int], echoes: bool, repeats: bool
) -> None:
    """Whether the provider writes it again or not."""
    sent = sent_of("message", delivered)
    tail = delivered[len(sent) :]
    assume(sent and more and not more[0].isspace())
    written = (sent if echoes else "") + (tail if repeats else "") + more
    assume(echoes or not written.startswith(sent))
    assert delivered + shown(Echo(sent, tail), written, sizes) == delivered + more


def test_held_back_is_no_more_than_may_be_an_echo() -> None:
    echo = Echo("abcdef")
    assert [echo.feed(one) for one in ("ab", "c", "x", "abcdef")] == ["", "", "abcx", "abcdef"]


def frame(delta: dict[str, Any] | None, *, finish: str | None = None, **more: Any) -> Frame:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    return Frame(orjson.dumps({"id": "other", "created": 2, "model": "b", "choices": choices, **more}))


def seam(sent: str = "") -> Seam:
    return Seam({"id": "first", "created": 1}, Usage(10, 20, 5), Echo(sent))


def natives(frames: list[Frame]) -> list[Any]:
    return [orjson.loads(openai.payload(one)) for one in frames]


def test_what_follows_a_seam_looks_like_more_of_the_first() -> None:
    joined = seam()
    begun = frame({"role": "assistant", "content": ""}, system_fingerprint="fp")
    assert joined.feed([begun, frame(None, prompt_filter_results=[])]) == []
    text, end = natives(
        joined.feed(
            [frame({"role": "assistant", "content": "x"}, service_tier="s"), frame({}, finish="stop")]
        )
    )
    assert text == {
        "id": "first",
        "created": 1,
        "model": "b",
        "service_tier": "s",
        "choices": [{"index": 0, "delta": {"content": "x"}, "finish_reason": None}],
    }
    assert end["choices"] == [{"index": 0, "delta": {}, "finish_reason": "stop"}]
    (usage,) = natives(joined.end(Usage(3, 4)))
    assert (usage["id"], usage["choices"], usage["usage"]["total_tokens"]) == ("first", [], 7)


def test_usage_behind_a_seam_is_the_sum() -> None:
    joined = seam()
    assert joined.feed([frame(None, usage={"prompt_tokens": 1, "completion_tokens": 2})]) == []
    (one,) = natives(
        joined.feed([frame({"content": "x"}, usage={"prompt_tokens": 1, "completion_tokens": 2})])
    )
    assert one["usage"] == {
        "prompt_tokens": 11,
        "completion_tokens": 22,
        "total_tokens": 33,
        "prompt_tokens_details": {"cached_tokens": 5},
    }
    assert joined.end(None) == []


@pytest.mark.parametrize(
    "ending",
    [{"finish": "stop"}, {"tool_calls": [{"index": 0, "function": {"name": "f"}}]}],
    ids=["finish", "tool"],
)
def test_text_that_is_held_back_comes_before_what_ends_it(ending: dict[str, Any]) -> None:
    joined = seam("abcdef")
    assert joined.feed([frame({"content": "abc"})]) == []
    finish = ending.pop("finish", None)
    (one,) = natives(joined.feed([frame(ending, finish=finish)]))
    assert one["choices"][0]["delta"]["content"] == "abc"
    assert joined.end(None) == []


def test_text_that_is_held_back_comes_when_nothing_ends_it() -> None:
    joined = seam("abcdef")
    joined.feed([frame({"content": "abc"})])
    (one,) = natives(joined.end(None))
    assert one["choices"][0]["delta"] == {"content": "abc"}


@pytest.mark.parametrize(
    ("delta", "finish", "usable"),
    [
        ({"content": "x"}, None, True),
        ({"content": "x"}, "", True),
        ({"reasoning_content": "x"}, None, True),
        ({"reasoning_details": [{}]}, None, True),
        ({"role": "assistant"}, None, True),
        ({"refusal": "no"}, None, False),
        ({"tool_calls": [{"index": 0, "function": {"name": "f"}}]}, None, False),
        ({"function_call": {"name": "f"}}, None, False),
        ({"audio": {"id": "a"}}, None, False),
        ({}, "stop", False),
        ({"content": 1}, None, True),
        ({"tool_calls": 1}, None, False),
    ],
)
def test_only_text_can_be_gone_on_with(delta: dict[str, Any], finish: str | None, usable: bool) -> None:
    delivered = Delivered()
    delivered.note([frame({"content": "é"}), frame(delta, finish=finish)])
    assert delivered.usable is usable
    assert delivered.text.startswith("é") is usable
    assert delivered.identity == {"id": "other", "created": 2}


def test_text_is_counted_in_bytes_and_bounded() -> None:
    delivered = Delivered()
    delivered.note([frame({"content": "é" * (MAX_TEXT_BYTES // 2)})])
    assert (delivered.usable, delivered.size_bytes) == (True, MAX_TEXT_BYTES)
    delivered.note([frame({"content": "x"})])
    assert (delivered.usable, delivered.text) == (False, "")


def request(
    operation: Operation = Operation.CHAT, stream: bool = True, choices: int = 1, **native: Any
) -> Any:
    native = {"model": "m", "messages": [USER], **native}
    cap = native.get("max_completion_tokens") or native.get("max_tokens")
    return ModelRequest(operation, "m", native, stream, choices=choices, max_output_tokens=cap)


@pytest.mark.parametrize(
    ("asked", "may"),
    [
        (request(), True),
        (request(response_format={"type": "json_object"}), True),
        (request(logprobs=False), True),
        (request(logprobs=True), False),
        (request(choices=2), False),
        (request(stream=False), False),
        (request(Operation.COMPLETION), False),
        (request(messages=[USER, BEGUN]), False),
        (request(messages=[BEGUN, USER]), True),
    ],
)
def test_which_requests_can_be_gone_on_with(asked: ModelRequest, may: bool) -> None:
    assert may_go_on(asked) is may


@pytest.mark.parametrize(
    ("prefill", "message", "more"),
    [
        ("message", {}, {}),
        ("prefix", {"prefix": True}, {}),
        ("vllm", {}, {"continue_final_message": True, "add_generation_prompt": False}),
    ],
)
def test_how_providers_are_asked_to_go_on(
    prefill: Prefill, message: dict[str, Any], more: dict[str, Any]
) -> None:
    asked = request(max_tokens=100, seed=7)
    going_on = continued(asked, prefill, "a word or two")
    said = {"role": "assistant", "content": "a word or two", **message}
    room = going_on.native.pop("max_tokens")
    assert going_on.native == {"model": "m", "messages": [USER, said], "seed": 7, **more}
    assert 90 < room < 100
    assert going_on.max_output_tokens == room
    assert asked.native["messages"] == [USER]
    assert continued(request(max_completion_tokens=1), prefill, "a word or two").max_output_tokens == 1
