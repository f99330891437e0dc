"""The official OpenAI library for Python, unchanged, by base URL alone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
import pytest_asyncio
from openai import AsyncOpenAI

from tests.e2e.rig import Gateway
from tests.fakes import answers
from tests.fakes.answers import (
    chat_body,
    chat_stream,
    chunk,
    error_answer,
    json_answer,
    open_stream,
    stream,
)
from tests.fakes.upstream import Step, Upstream, fin, hang, reset, send

pytestmark = pytest.mark.asyncio(loop_scope="module")

MESSAGES: Any = [{"role": "user", "content": "Say something."}]
SCHEMA = {"type": "object", "properties": {}, "required": [], "additionalProperties": False}
WEATHER = {"name": "weather", "strict": True, "parameters": SCHEMA}
TOOLS: Any = [{"type": "function", "function": WEATHER}]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(gateway: Gateway) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(
        base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0, timeout=15
    ) as made:
        yield made


async def test_chat(client: AsyncOpenAI, gateway: Gateway, upstream: Upstream) -> None:
    upstream.next(send(json_answer(chat_body("Hello."))))
    answer = await client.chat.completions.create(model="chat", messages=MESSAGES)
    assert answer.choices[0].message.content == "Hello."
    assert answer.usage and answer.usage.total_tokens == 18
    assert answer.model == answers.MODEL
    assert upstream.last.json() == {"model": "upstream-model", "messages": MESSAGES}
    assert (await gateway.row(answer._request_id or ""))["outcome"] == "ok"


async def test_stream(client: AsyncOpenAI, upstream: Upstream) -> None:
    upstream.next(*stream(chat_stream(["Hel", "lo."], null_usage=True, azure=True), size=3))
    heard = await client.chat.completions.create(model="chat", messages=MESSAGES, stream=True)
    chunks = [part async for part in heard]
    assert "".join(part.choices[0].delta.content or "" for part in chunks if part.choices) == "Hello."
    assert all(part.usage is None for part in chunks)


async def test_stream_with_usage(client: AsyncOpenAI, upstream: Upstream) -> None:
    upstream.next(*stream(chat_stream(["Hello."], null_usage=True)))
    heard = await client.chat.completions.create(
        model="chat", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
    )
    chunks = [part async for part in heard]
    assert chunks[-1].choices == [] and chunks[-1].usage and chunks[-1].usage.total_tokens == 18


async def test_tools(client: AsyncOpenAI, upstream: Upstream) -> None:
    call = {
        "id": "call_1",
        "type": "function",
        "function": {"name": "weather", "arguments": '{"city":"Bonn"}'},
    }
    upstream.next(send(json_answer(chat_body(finish="tool_calls", tool_calls=[call]))))
    answer = await client.chat.completions.create(
        model="chat", messages=MESSAGES, tools=TOOLS, tool_choice="required"
    )
    made = answer.choices[0].message.tool_calls
    assert made and made[0].type == "function" and made[0].function.arguments == '{"city":"Bonn"}'
    assert upstream.last.json()["tools"] == TOOLS
    assert upstream.last.json()["tool_choice"] == "required"


async def test_streamed_tools(client: AsyncOpenAI, upstream: Upstream) -> None:
    events = [chunk({"role": "assistant", "content": None})]
    for call in (0, 1):
        events.append(answers.tool_start(call, f"call_{call}", "weather"))
        events += [answers.tool_args(call, part) for part in ('{"a', '":', "1}")]
    upstream.next(*stream([*events, chunk({}, finish="tool_calls"), answers.DONE]))
    async with client.chat.completions.stream(model="chat", messages=MESSAGES, tools=TOOLS) as heard:
        final = await heard.get_final_completion()
    made = final.choices[0].message.tool_calls or []
    assert [(call.function.name, call.function.arguments) for call in made] == [
        ("weather", '{"a":1}'),
        ("weather", '{"a":1}'),
    ]


async def test_two_choices(client: AsyncOpenAI, upstream: Upstream) -> None:
    upstream.next(send(json_answer(chat_body("one", "two"))))
    answer = await client.chat.completions.create(model="chat", messages=MESSAGES, n=2)
    assert [choice.message.content for choice in answer.choices] == ["one", "two"]


async def test_two_streamed_choices(client: AsyncOpenAI, upstream: Upstream) -> None:
    events = [chunk({"content": text}, index=index) for text in ("a", "b") for index in (1, 0)]
    events += [chunk({}, index=index, finish="stop") for index in (0, 1)]
    upstream.next(*stream(events))
    heard = await client.chat.completions.create(model="chat", messages=MESSAGES, n=2, stream=True)
    texts = ["", ""]
    async for part in heard:
        texts[part.choices[0].index] += part.choices[0].delta.content or ""
    assert texts == ["ab", "ab"]


async def test_fields_pass_unharmed(client: AsyncOpenAI, upstream: Upstream) -> None:
    schema: Any = {
        "type": "json_schema",
        "json_schema": {"name": "x", "strict": True, "schema": {"type": "object"}},
    }
    parts: Any = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}},
        {"type": "of_the_future", "of_the_future": {"deep": [1, None, "x"]}},
    ]
    unknown = {"reasoning": {"effort": "low"}, "provider_option": [1.5, None, {"a": False}]}
    upstream.next(send(json_answer({**chat_body("{}"), "of_the_future": {"kept": True}})))
    answer = await client.chat.completions.create(
        model="chat",
        messages=[{"role": "user", "content": parts}],
        response_format=schema,
        logprobs=True,
        top_logprobs=3,
        seed=7,
        stop=["\n"],
        logit_bias={"50256": -100},
        user="someone",
        metadata={"a": "b"},
        extra_body=unknown,
    )
    seen = upstream.last.json()
    assert seen["response_format"] == schema
    assert seen["messages"][0]["content"] == parts
    assert {name: seen[name] for name in unknown} == unknown
    assert (seen["logprobs"], seen["top_logprobs"], seen["seed"]) == (True, 3, 7)
    assert (seen["stop"], seen["logit_bias"]) == (["\n"], {"50256": -100})
    assert (answer.model_extra or {})["of_the_future"] == {"kept": True}


async def test_completions(client: AsyncOpenAI, upstream: Upstream) -> None:
    upstream.next(send(json_answer(answers.completion_body("upon a time"))))
    answer = await client.completions.create(model="chat", prompt="Once")
    assert answer.choices[0].text == "upon a time"
    assert upstream.last.path == "/v1/completions"


async def test_streamed_completions(client: AsyncOpenAI, upstream: Upstream) -> None:
    events = [
        answers.event({**answers.completion_body(text), "usage": None, "choices": [choice]})
        for text in ("upon ", "a time")
        for choice in [{"index": 0, "text": text, "finish_reason": None, "logprobs": None}]
    ]
    ended = {**answers.completion_body(""), "usage": None}
    upstream.next(*stream([*events, answers.event(ended), answers.DONE]))
    heard = await client.completions.create(model="chat", prompt="Once", stream=True)
    assert "".join([part.choices[0].text async for part in heard]) == "upon a time"


async def test_embeddings(client: AsyncOpenAI, gateway: Gateway, upstream: Upstream) -> None:
    upstream.next(send(json_answer(answers.embedding_body([0.5, 1.0], [2.0, 4.0]))))
    answer = await client.embeddings.create(model="chat", input=["a", "b"], encoding_format="float")
    assert [item.embedding for item in answer.data] == [[0.5, 1.0], [2.0, 4.0]]
    assert upstream.last.path == "/v1/embeddings"
    assert gateway.rows()[-1]["operation"] in ("embeddings", "chat", "text_completion")


async def test_models(client: AsyncOpenAI) -> None:
    assert [model.id async for model in client.models.list()] == ["chat"]
    assert (await client.models.retrieve("chat")).id == "chat"
    with pytest.raises(openai.NotFoundError) as raised:
        await client.models.retrieve("no-such-model")
    assert raised.value.code == "model_not_found"


async def test_wrong_key(client: AsyncOpenAI) -> None:
    stranger = client.with_options(api_key="sk-gw-nobody-knows-this-key")
    for asked in (
        stranger.models.list(),
        stranger.chat.completions.create(model="chat", messages=MESSAGES),
    ):
        with pytest.raises(openai.AuthenticationError) as raised:
            await asked
        assert raised.value.code == "invalid_api_key"


async def test_unknown_model(client: AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as raised:
        await client.chat.completions.create(model="no-such-model", messages=MESSAGES)
    assert (raised.value.code, raised.value.param) == ("model_not_found", "model")
    assert raised.value.request_id


async def test_bad_request(client: AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        await client.chat.completions.create(model="chat", messages=MESSAGES, max_tokens=-1)
    assert (raised.value.code, raised.value.param) == ("invalid_request", "max_tokens")


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize(
    ("block", "kind", "code"),
    [
        (error_answer("429 Too Many Requests"), openai.RateLimitError, "upstream_rate_limited"),
        (error_answer("500 Internal Server Error"), openai.InternalServerError, "upstream_error"),
        (error_answer("503 Service Unavailable"), openai.InternalServerError, "overloaded"),
        (error_answer("401 Unauthorized"), openai.InternalServerError, "upstream_auth_error"),
        (
            error_answer("400 Bad Request", "context_length_exceeded"),
            openai.BadRequestError,
            "context_length_exceeded",
        ),
    ],
    ids=["429", "500", "503", "401", "400"],
)
async def test_upstream_errors(
    client: AsyncOpenAI,
    upstream: Upstream,
    block: bytes,
    kind: type[openai.APIStatusError],
    code: str,
    streamed: bool,
) -> None:
    upstream.next(send(block))
    with pytest.raises(kind) as raised:
        await client.chat.completions.create(model="chat", messages=MESSAGES, stream=streamed)
    assert raised.value.code == code


async def test_the_librarys_retries_obey_the_gateway(client: AsyncOpenAI, upstream: Upstream) -> None:
    """``x-should-retry: false``: one request; a retryable error: another one, that succeeds."""
    eager = client.with_options(max_retries=2)
    before = len(upstream.seen)
    upstream.next(send(error_answer("401 Unauthorized")))
    with pytest.raises(openai.InternalServerError):
        await eager.chat.completions.create(model="chat", messages=MESSAGES)
    assert len(upstream.seen) == before + 1
    upstream.next(send(error_answer("500 Internal Server Error")))
    upstream.next(send(json_answer(chat_body("at last"))))
    answer = await eager.chat.completions.create(model="chat", messages=MESSAGES)
    assert answer.choices[0].message.content == "at last"


@pytest.mark.parametrize("end", [fin(), reset()], ids=["fin", "reset"])
async def test_a_cut_stream_raises(client: AsyncOpenAI, upstream: Upstream, end: Step) -> None:
    upstream.next(open_stream(chunk({"content": "half of "}), chunk({"content": "it"})), end)
    heard = await client.chat.completions.create(model="chat", messages=MESSAGES, stream=True)
    text = ""
    with pytest.raises(openai.APIError) as raised:
        async for part in heard:
            text += part.choices[0].delta.content or ""
    assert text.startswith("half of ")
    assert raised.value.code == "upstream_error"


async def test_leaving_a_stream(client: AsyncOpenAI, gateway: Gateway, upstream: Upstream) -> None:
    upstream.next(open_stream(*(chunk({"content": f"{number} "}) for number in range(5))), hang())
    async with await client.chat.completions.create(model="chat", messages=MESSAGES, stream=True) as heard:
        async for _ in heard:
            break
    await upstream.last.left(1.0)
    request_id = heard.response.headers["x-request-id"]
    assert (await gateway.row(request_id))["outcome"] == "client_gone"
