"""LangChain's OpenAI chat model, unchanged, by base URL alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest
from langchain_openai import ChatOpenAI
from pydantic import SecretStr

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
from tests.fakes.upstream import Upstream, fin, send

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def model(gateway: Gateway) -> Iterator[Any]:
    yield ChatOpenAI(
        model="chat",
        base_url=f"{gateway.url}/v1",
        api_key=SecretStr(gateway.key),
        max_retries=0,
        timeout=15,
    )


async def test_invoke(model: Any, upstream: Upstream) -> None:
    upstream.next(send(json_answer(chat_body("Hello."))))
    said = await model.ainvoke("Say something.")
    assert said.content == "Hello."
    assert said.usage_metadata["total_tokens"] == 18
    assert said.response_metadata["model_name"] == answers.MODEL


async def test_stream(model: Any, upstream: Upstream) -> None:
    upstream.next(*stream(chat_stream(["Hel", "lo", "."], null_usage=True, azure=True), size=7))
    parts = [part async for part in model.astream("Say something.", stream_usage=True)]
    assert "".join(part.content for part in parts) == "Hello."
    assert sum(part.usage_metadata["total_tokens"] for part in parts if part.usage_metadata) == 18


async def test_tools(model: Any, upstream: Upstream) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": '{"a":1}'}}
    upstream.next(send(json_answer(chat_body(finish="tool_calls", tool_calls=[call]))))

    def add(a: int) -> int:
        """Adds one."""
        return a + 1

    said = await model.bind_tools([add]).ainvoke("Add one to one.")
    assert [(made["name"], made["args"]) for made in said.tool_calls] == [("add", {"a": 1})]
    assert upstream.last.json()["tools"][0]["function"]["name"] == "add"


async def test_an_upstream_error(model: Any, upstream: Upstream) -> None:
    upstream.next(send(error_answer("429 Too Many Requests")))
    with pytest.raises(openai.RateLimitError):
        await model.ainvoke("Say something.")


async def test_a_cut_stream(model: Any, upstream: Upstream) -> None:
    upstream.next(open_stream(chunk({"content": "half of it"})), fin())
    heard = ""
    with pytest.raises(openai.APIError):
        async for part in model.astream("Say something."):
            heard += part.content
    assert heard == "half of it"
