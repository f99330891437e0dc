"""Large answers: nobody else waits for them, what they cost is bounded, and all of them is searched."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from tests.e2e.redacting import EMAIL, MADE_UP, MASK, RESTORE, ask, policies, whole
from tests.e2e.refusals import assert_refused
from tests.e2e.rig import Gateway
from tests.e2e.routes import said
from tests.fakes.answers import DONE, chunk, stream
from tests.fakes.client import Answer
from tests.fakes.upstream import Step, Upstream

pytestmark = pytest.mark.asyncio(loop_scope="module")

KB = 1024
HELD_S = 1.0
"""A loop that is held by an answer is held for seconds."""
IBANS = "DE89 " * (180 * KB)
LIST = "1 " * (450 * KB)


@pytest.fixture(scope="module")
def changes() -> dict[str, Any]:
    return policies(
        masks={**RESTORE, "budget_s": 60},
        hasty={**RESTORE, "budget_s": 0.3},
        passing={**MASK, "budget_s": 0.3, "on_failure": "pass"},
        thorough={**MASK, "engine": "presidio", "languages": ["en", "de"], "budget_s": 60},
    )


def streamed(*texts: str) -> list[Step]:
    return stream([*(chunk({"content": text}) for text in texts), chunk({}, finish="stop"), DONE])


def called(arguments: str) -> list[Step]:
    call = {
        "index": 0,
        "id": "call_1",
        "type": "function",
        "function": {"name": "f", "arguments": arguments},
    }
    return stream([chunk({"tool_calls": [call]}), chunk({}, finish="tool_calls"), DONE])


async def meanwhile(gateway: Gateway, asked: asyncio.Task[Answer]) -> float:
    """How long others waited at most, in seconds."""
    longest_s = 0.0
    while not asked.done():
        began_s = time.monotonic()
        assert (await gateway.ask("/healthz")).status == 200
        longest_s = max(longest_s, time.monotonic() - began_s)
        await asyncio.sleep(0.005)
    return longest_s


ANSWERS: dict[str, list[Step]] = {
    "a chunk of what may be IBANs": streamed(IBANS),
    "a chunk of a list of numbers": streamed(LIST),
    "a list of numbers in pieces": streamed(*["1 1 1 1 1 "] * 6000),
    "no break": streamed("@" * (900 * KB)),
    "a whole answer": [whole(IBANS * 4)],
    "arguments": called('{"a":"' + "\\\\" * (200 * KB) + '"}'),
}


@pytest.mark.parametrize("name", ANSWERS)
@pytest.mark.parametrize("tenant", ["hasty", "passing"])
async def test_nobody_waits_for_it(gateway: Gateway, upstream: Upstream, name: str, tenant: str) -> None:
    upstream.next(*ANSWERS[name])
    asked = asyncio.get_running_loop().create_task(ask(gateway, tenant, EMAIL, stream=True))
    assert await meanwhile(gateway, asked) < HELD_S
    answer = await asked
    assert answer.status == 200 or (tenant == "hasty" and answer.code == "redaction_unavailable")


async def test_nobody_waits_for_a_whole_one(gateway: Gateway, upstream: Upstream) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "\\" * (4 << 20)}}
    upstream.next(whole(tool_calls=[call]))
    asked = asyncio.get_running_loop().create_task(ask(gateway, "masks", EMAIL))
    assert await meanwhile(gateway, asked) < HELD_S
    assert (await asked).status == 200


async def test_what_takes_too_long_is_refused(gateway: Gateway, upstream: Upstream) -> None:
    upstream.next(*streamed(LIST))
    began_s = time.monotonic()
    assert_refused(await ask(gateway, "hasty", EMAIL, stream=True), 503, "redaction_unavailable")
    assert time.monotonic() - began_s < 3


async def test_what_takes_too_long_may_pass(gateway: Gateway, upstream: Upstream) -> None:
    upstream.next(*streamed(LIST))
    answer = await ask(gateway, "passing", EMAIL, stream=True)
    assert said(answer) == LIST


@pytest.mark.parametrize("name", ["masks", "thorough"])
@pytest.mark.parametrize("size", [40_000, 64])
async def test_all_of_it_is_searched(gateway: Gateway, upstream: Upstream, name: str, size: int) -> None:
    text = "".join(f"{number}: ask {MADE_UP}, not me. " for number in range(1000))
    upstream.next(*streamed(*(text[start : start + size] for start in range(0, len(text), size))))
    answer = await ask(gateway, name, "hi", stream=True)
    assert said(answer) == text.replace(MADE_UP, "[EMAIL_ADDRESS_1]")


async def test_who_leaves_frees_the_others(gateway: Gateway, upstream: Upstream) -> None:
    for _ in range(8):
        upstream.next(*streamed(LIST))
    loop = asyncio.get_running_loop()
    gone = [loop.create_task(ask(gateway, "masks", EMAIL, stream=True)) for _ in range(8)]
    await asyncio.sleep(0.5)
    for task in gone:
        task.cancel()
    await asyncio.wait(gone)
    upstream.next(*streamed("Ask " + MADE_UP + ", not me. " * 1000))
    began_s = time.monotonic()
    answer = await ask(gateway, "masks", "hi", stream=True)
    assert said(answer).startswith("Ask [EMAIL_ADDRESS_1], not")
    assert time.monotonic() - began_s < 5


async def test_too_much_to_find(gateway: Gateway, upstream: Upstream) -> None:
    """Trying again does not mend it."""
    before = len(upstream.seen)
    text = " ".join(f"j{number}@example.com" for number in range(25_000))
    answer = await ask(gateway, "masks", text)
    assert_refused(answer, 400, "invalid_request")
    assert b"send it in several requests" in answer.body
    assert answer.header("retry-after") is None
    assert len(upstream.seen) == before
