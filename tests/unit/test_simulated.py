"""The provider in this process: what it says behind an answer that has begun."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from gateway.exchange import Operation
from gateway.providers.openai import PATHS
from gateway.providers.simulated import Script, SimulatedTransport
from gateway.providers.transport import Endpoint, Target

TARGET = Target(Endpoint("http", "simulated.invalid", 80), "POST", PATHS[Operation.CHAT], [])
USER = {"role": "user", "content": "hi"}


async def answered(*messages: Any, **more: Any) -> tuple[str, int]:
    """Text and output tokens of an answer of four words."""
    body = orjson.dumps({"model": "m", "messages": messages, **more})
    call = SimulatedTransport(Script(words=4)).call(TARGET, body)
    await call.open(1.0)
    native = orjson.loads(await call.read())
    call.close()
    return native["choices"][0]["message"]["content"], native["usage"]["completion_tokens"]


@pytest.mark.parametrize(
    ("begun", "text", "tokens"),
    [
        ("", "the gateway answers from", 4),
        ("the gate", "way answers from", 3),
        ("the gateway", " answers from", 2),
        ("the gateway answers from", "", 0),
        ("something else", "the gateway answers from", 4),
    ],
)
async def test_it_goes_on_from_its_own_beginning(begun: str, text: str, tokens: int) -> None:
    assert await answered(USER, {"role": "assistant", "content": begun}) == (text, tokens)
    assert await answered({"role": "assistant", "content": begun}, USER) == ("the gateway answers from", 4)


async def test_a_cap_counts_the_words_that_are_left() -> None:
    begun = {"role": "assistant", "content": "the gateway"}
    assert await answered(USER, begun, max_tokens=1) == (" answers", 1)
