"""Clients that do not wait for the end: the provider stops, and what it did is on one bill."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.contract.transport_rig import black_hole
from tests.e2e.rig import CHAT, Gateway, chat, group
from tests.fakes import answers
from tests.fakes.answers import chat_stream, chunk, head, open_stream
from tests.fakes.client import RawClient, request
from tests.fakes.upstream import Step, Upstream, flood, hang, send, wait

pytestmark = pytest.mark.asyncio(loop_scope="module")

LEFT_WITHIN_S = 1.0
BEGUN = [chunk({"role": "assistant", "content": ""}), *(chunk({"content": f"word{i} "}) for i in range(20))]


async def begin(gateway: Gateway, client: RawClient, request_id: str, **fields: Any) -> None:
    headers = {"x-request-id": request_id}
    await client.send(request(CHAT, chat(**fields), key=gateway.key, headers=headers))


async def came(upstream: Upstream, count: int) -> None:
    async with asyncio.timeout(5.0):
        while len(upstream.seen) < count:
            await asyncio.sleep(0.005)


async def assert_gone(
    gateway: Gateway, upstream: Upstream, request_id: str, left_s: float
) -> dict[str, Any]:
    """The provider's connection is cut soon, and one row tells; returns it."""
    gone_s = await upstream.last.left(LEFT_WITHIN_S + 1.0)
    assert gone_s - left_s < LEFT_WITHIN_S
    row = await gateway.row(request_id)
    assert (row["outcome"], row["model"], len(row["attempts"])) == ("client_gone", "chat", 1)
    assert (await gateway.line(request_id))["outcome"] == "client_gone"
    return row


@pytest.fixture(scope="module")
def changes() -> Iterator[dict[str, Any]]:
    with black_hole() as port:
        nowhere = {"kind": "openai", "base_url": f"http://127.0.0.1:{port}/v1"}
        yield {
            "providers": {"nowhere": nowhere, "nowhere-httpx": {**nowhere, "transport": "httpx"}},
            "models": {
                name: group(name, timeouts={"connect_s": 10, "first_event_s": 10, "total_s": 20})
                for name in ("nowhere", "nowhere-httpx")
            },
        }


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("model", ["nowhere", "nowhere-httpx"])
async def test_while_connecting(gateway: Gateway, model: str, stream: bool) -> None:
    """Nothing was sent to anybody, so nothing is billed."""
    request_id = f"connecting-{model}-{stream}"
    async with gateway.client() as client:
        await begin(gateway, client, request_id, model=model, stream=stream)
        await asyncio.sleep(0.5)
        await client.reset()
    row = await gateway.row(request_id)
    assert row["outcome"] == "client_gone"
    assert [one["outcome"] for one in row["attempts"]] == ["left"]
    assert (row["usage"]["input_tokens"], row["usage"]["output_tokens"]) == (0, 0)
    assert float(row["cost_usd"]) == 0


@pytest.mark.parametrize("leave", ["close", "reset"])
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    "said",
    [
        (),
        (send(head("content-type: application/json", "content-length: 999")),),
        (send(head("content-type: application/json", "content-length: 999"), b'{"choices"'),),
    ],
    ids=["nothing", "head", "some"],
)
async def test_before_the_answer(
    gateway: Gateway, upstream: Upstream, said: tuple[Step, ...], stream: bool, leave: str
) -> None:
    before = len(upstream.seen)
    upstream.next(*said, hang())
    request_id = f"left-{before}"
    async with gateway.client() as client:
        await begin(gateway, client, request_id, stream=stream)
        await came(upstream, before + 1)
        await asyncio.sleep(0.05)
        await getattr(client, leave)()
        left_s = time.monotonic()
    row = await assert_gone(gateway, upstream, request_id, left_s)
    assert row["cost_source"] == "estimated"
    assert row["usage"]["input_tokens"] > 0


@pytest.mark.parametrize("leave", ["close", "reset"])
@pytest.mark.parametrize("count", [1, 2, 20])
async def test_after_some_tokens(gateway: Gateway, upstream: Upstream, count: int, leave: str) -> None:
    before = len(upstream.seen)
    upstream.next(open_stream(*BEGUN[: count + 1]), hang())
    request_id = f"partly-{before}"
    async with gateway.client() as client:
        await begin(gateway, client, request_id, stream=True)
        await client.read_head()
        for _ in range(count + 1):
            assert await client.read_event()
        await getattr(client, leave)()
        left_s = time.monotonic()
    row = await assert_gone(gateway, upstream, request_id, left_s)
    assert row["cost_source"] == "estimated"
    assert 1 <= row["usage"]["output_tokens"] <= 8 * count
    assert row["charged_usd"] == row["cost_usd"] != "0.000000000"


async def test_the_providers_own_number_counts_if_it_came(gateway: Gateway, upstream: Upstream) -> None:
    usage = {"prompt_tokens": 40, "completion_tokens": 21}
    upstream.next(open_stream(*BEGUN, chunk({"content": "!"}, usage=usage)), hang())
    async with gateway.client() as client:
        await begin(gateway, client, "usage-came", stream=True)
        await client.read_head()
        for _ in range(len(BEGUN) + 1):
            assert await client.read_event()
        await client.close()
        left_s = time.monotonic()
    row = await assert_gone(gateway, upstream, "usage-came", left_s)
    assert row["cost_source"] == "provider"
    assert row["usage"]["output_tokens"] == 21


async def test_while_the_provider_writes(gateway: Gateway, upstream: Upstream) -> None:
    """A reader who stopped reading, then left: the flood from above ends too."""
    block = b"".join(answers.chunked([event], end=False) for event in BEGUN[1:] * 10)
    upstream.next(open_stream(*BEGUN), flood(block, 20_000), hang())
    async with gateway.client() as client:
        await begin(gateway, client, "flooded", stream=True)
        await client.read_head()
        assert await client.read_event()
        await asyncio.sleep(0.5)
        held = upstream.last.connection.sent
        await asyncio.sleep(0.3)
        assert upstream.last.connection.sent - held < 8 << 20  # it waits for the reader
        assert held < 64 << 20
        await client.reset()
        left_s = time.monotonic()
    await assert_gone(gateway, upstream, "flooded", left_s)


async def test_with_the_request_half_sent(gateway: Gateway, upstream: Upstream) -> None:
    """Nothing was admitted: no row, no upstream request."""
    raw = request(CHAT, chat(), key=gateway.key, headers={"x-request-id": "half-sent"})
    before = len(upstream.seen)
    async with gateway.client() as client:
        await client.send(raw[:-10])
        await asyncio.sleep(0.05)
        await client.close()
    assert (await gateway.line("half-sent"))["outcome"] == "client_gone"
    assert not [row for row in gateway.rows() if row["request_id"] == "half-sent"]
    assert len(upstream.seen) == before


async def test_after_the_whole_answer(gateway: Gateway, upstream: Upstream) -> None:
    """Who leaves with everything in hand has not left early."""
    upstream.next(*answers.stream(chat_stream(["done"])))
    async with gateway.client() as client:
        await begin(gateway, client, "all-there", stream=True)
        answer = await client.read()
        await client.reset()
    assert answer.events[-1] == b"[DONE]"
    assert (await gateway.row("all-there"))["outcome"] == "ok"


async def test_many_at_once(gateway: Gateway, upstream: Upstream) -> None:
    """Half of thirty leave in the middle; the other half get all of theirs."""
    events = [answers.chunked([event], end=False) for event in chat_stream(["a", "b", "c"])]
    for _ in range(30):
        upstream.next(open_stream(), send(*events[:3]), wait(0.3), send(*events[3:], b"0\r\n\r\n"))

    async def one(number: int) -> None:
        async with gateway.client() as client:
            await begin(gateway, client, f"many-{number}", stream=True)
            if number % 2:
                assert (await client.read()).events[-1] == b"[DONE]"
                return
            await client.read_head()
            await client.read_event()

    await asyncio.gather(*(one(number) for number in range(30)))
    rows = {number: await gateway.row(f"many-{number}") for number in range(30)}
    for number, row in rows.items():
        assert row["outcome"] == ("ok" if number % 2 else "client_gone")
