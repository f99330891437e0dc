"""What an answer has used: the provider's numbers where they can be believed, else an estimate."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from tests.e2e.rig import Gateway
from tests.fakes import answers
from tests.fakes.answers import USAGE, chat_stream, chunk, stream
from tests.fakes.upstream import Upstream, send

pytestmark = pytest.mark.asyncio(loop_scope="module")

SAID = ["one two three ", "four five six ", "seven eight nine"]


@pytest.mark.parametrize("null_usage", [True, False])
@pytest.mark.parametrize("azure", [True, False])
async def test_usage_is_asked_for_and_hidden_unless_the_client_asked(
    gateway: Gateway, upstream: Upstream, null_usage: bool, azure: bool
) -> None:
    events = chat_stream(SAID, null_usage=null_usage, azure=azure)
    upstream.next(*stream(events))
    answer = await gateway.chat(stream=True)
    assert upstream.last.json()["stream_options"] == {"include_usage": True}
    assert [b"data: %b\n\n" % raw for raw in answer.events] == [*events[:-2], events[-1]]
    row = await gateway.row(answer.header("x-request-id") or "")
    assert row["usage"] == {"input_tokens": 11, "output_tokens": 7, "cached_input_tokens": 0}
    assert (row["cost_source"], row["cost_usd"]) == ("provider", "0.000097500")


async def test_usage_reaches_the_client_that_asked(gateway: Gateway, upstream: Upstream) -> None:
    events = chat_stream(SAID)
    upstream.next(*stream(events))
    answer = await gateway.chat(stream=True, stream_options={"include_usage": True})
    assert [b"data: %b\n\n" % raw for raw in answer.events] == events


async def test_the_last_cumulative_usage_counts(gateway: Gateway, upstream: Upstream) -> None:
    events = chat_stream(SAID, usage=None, done=False)
    for output in (2, 5, 9):
        usage = {"prompt_tokens": 11, "completion_tokens": output}
        events.append(chunk(None, usage=usage))
    upstream.next(*stream([*events, answers.DONE]))
    answer = await gateway.chat(stream=True)
    row = await gateway.row(answer.header("x-request-id") or "")
    assert row["usage"]["output_tokens"] == 9


@pytest.mark.parametrize("stream_asked", [True, False])
async def test_no_usage_is_estimated(gateway: Gateway, upstream: Upstream, stream_asked: bool) -> None:
    if stream_asked:
        upstream.next(*stream(chat_stream(SAID, usage=None)))
    else:
        upstream.next(send(answers.json_answer(answers.chat_body("".join(SAID), usage=None))))
    answer = await gateway.chat(stream=stream_asked)
    assert answer.status == 200
    row = await gateway.row(answer.header("x-request-id") or "")
    assert row["cost_source"] == "estimated"
    assert 3 <= row["usage"]["output_tokens"] <= 60
    assert row["usage"]["input_tokens"] > 0
    assert row["cost_usd"] != "0.000000000"


@pytest.mark.parametrize("stream_asked", [True, False])
@pytest.mark.parametrize("wrong", [-1, 7.5, 2**63, "7", True, [7], None], ids=repr)
async def test_numbers_that_cannot_be_true_are_not_believed(
    gateway: Gateway, upstream: Upstream, stream_asked: bool, wrong: Any
) -> None:
    usage = {**USAGE, "completion_tokens": wrong}
    if stream_asked:
        upstream.next(*stream(chat_stream(SAID, usage=usage)))
    else:
        upstream.next(send(answers.json_answer(answers.chat_body("".join(SAID), usage=usage))))
    answer = await gateway.chat(stream=stream_asked)
    assert answer.status == 200
    request_id = answer.header("x-request-id") or ""
    row = await gateway.row(request_id)
    assert (row["outcome"], row["cost_source"]) == ("ok", "estimated")
    assert type(row["usage"]["output_tokens"]) is int
    assert 3 <= row["usage"]["output_tokens"] <= 60
    assert await gateway.line(request_id, "usage_rejected")


async def test_cached_input_is_part_of_the_input(gateway: Gateway, upstream: Upstream) -> None:
    usage = {
        "prompt_tokens": 1000,
        "completion_tokens": 10,
        "prompt_tokens_details": {"cached_tokens": 800},
    }
    upstream.next(send(answers.json_answer(answers.chat_body("x", usage=usage))))
    answer = await gateway.chat()
    row = await gateway.row(answer.header("x-request-id") or "")
    assert row["usage"] == {"input_tokens": 1000, "output_tokens": 10, "cached_input_tokens": 800}
    # 200 × 2.50 + 800 × 1.25 + 10 × 10.00 dollars per million
    assert row["cost_usd"] == answer.header("x-gateway-cost-usd") == "0.001600000"


async def test_the_cost_of_a_buffered_answer_is_in_its_head(gateway: Gateway, upstream: Upstream) -> None:
    upstream.next(send(answers.json_answer(answers.chat_body("x"))))
    answer = await gateway.chat()
    assert orjson.loads(answer.body)["usage"] == USAGE
    assert answer.header("x-gateway-cost-usd") == "0.000097500"
