"""Killed in the middle: each request that had begun has exactly one row in the end, and the chain holds."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.e2e.served import SOON_S, Served, served
from tests.fakes.answers import chat_body, chunk, json_answer, open_stream
from tests.fakes.upstream import Upstream, hang, send

pytestmark = pytest.mark.asyncio(loop_scope="module")

TOKEN = "operator-token-0123456789abcdef0123456789"
BEGUN = [chunk({"role": "assistant", "content": ""}), chunk({"content": "one "})]


@pytest_asyncio.fixture(loop_scope="module")
async def upstream() -> AsyncIterator[Upstream]:
    async with Upstream() as running:
        yield running


@pytest.fixture(autouse=True)
def settled() -> None:
    """Each test here looks after a process of its own."""


async def attempts(gateway: Served, count: int) -> None:
    """Returns once so many attempts are written down."""
    async with asyncio.timeout(SOON_S):
        while len(gateway.rows("attempt")) < count:
            await asyncio.sleep(0.01)


async def crashed(gateway: Served, upstream: Upstream) -> dict[str, Any]:
    """One request that is answered, then one that is killed in mid-stream; the former's row."""
    upstream.next(send(json_answer(chat_body("fine"))))
    answer = await gateway.chat()
    row = await gateway.row(answer.header("x-request-id") or "")
    upstream.next(open_stream(*BEGUN), hang())
    async with gateway.client() as client:
        await gateway.begin(client, "cut-short", stream=True, max_tokens=50)
        assert (await client.read_head()).status == 200
        await attempts(gateway, 2)
        gateway.signal(signal.SIGKILL)
        assert await gateway.ended() == -signal.SIGKILL
    return row


async def test_what_was_open_is_recovered_once(tmp_path: Path, upstream: Upstream) -> None:
    async with served(tmp_path, upstream, server={"admin_token": TOKEN}) as gateway:
        normal = await crashed(gateway, upstream)
        await gateway.start()
        row = await gateway.row("cut-short")
        assert row["recovered"] is True and row.keys() == normal.keys() | {"recovered"}
        assert (row["outcome"], row["error_code"]) == ("error", "internal_error")
        assert row["attempts"] == [{"deployment": "chat-1", "outcome": "lost", "status": None}]
        (attempt,) = [one for one in gateway.rows("attempt") if one["id"] == row["id"]]
        assert row["cost_usd"] == row["charged_usd"] == attempt["reserved_usd"] != "0.000000000"
        asked = await gateway.ask("/admin/v1/ledger?request_id=cut-short", key=TOKEN)
        assert [one["id"] for one in asked.json()["data"]] == [row["id"]]
        total = (await gateway.ask("/admin/v1/spend", key=TOKEN)).json()["data"][0]
        assert total["requests"] == 2
        assert await gateway.stop() == 0
        gateway.assert_proved()
        written = gateway.rows()
        await gateway.start()
        assert await gateway.stop() == 0
        assert gateway.rows() == written
        gateway.assert_proved()


async def test_killed_again_and_again(tmp_path: Path, upstream: Upstream) -> None:
    """Without the checkpoint ever being written; the second crash comes before anything is asked."""
    async with served(tmp_path, upstream) as gateway:
        await crashed(gateway, upstream)
        for _ in range(2):
            await gateway.start()
            gateway.signal(signal.SIGKILL)
            assert await gateway.ended() == -signal.SIGKILL
        await gateway.start()
        await gateway.row("cut-short")
        assert await gateway.stop() == 0
        assert len(gateway.rows()) == 2 and len(list(gateway.data_dir.glob("ledger/*/"))) == 1
        gateway.assert_proved()


async def test_a_neighbour_that_died_is_looked_after(tmp_path: Path, upstream: Upstream) -> None:
    """By whoever serves with the same folder later, under a name of its own."""
    async with served(tmp_path, upstream) as gateway:
        await crashed(gateway, upstream)
        (gateway.data_dir / "ledger" / "a-new-writer").mkdir()
        await gateway.start()
        row = await gateway.row("cut-short", within_s=20.0)
        assert row["recovered"] is True
        assert await gateway.stop() == 0
        gateway.assert_proved()
        assert len(gateway.rows()) == 2
        assert len(list(gateway.data_dir.glob("ledger/*/"))) == 2
