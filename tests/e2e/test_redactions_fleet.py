"""Two gateways with one Redis and a folder each: either tells what both found, and what a dead one had."""

from __future__ import annotations

import asyncio
import signal
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.operators import ADMIN, admin
from tests.e2e.served import Served, served
from tests.fakes.answers import chat_body, chunk, json_answer, open_stream
from tests.fakes.upstream import Upstream, hang, send
from tests.storage.redis_server import RedisServer, redis_server

EMAIL = "EMAIL_ADDRESS"
MAIL = [{"role": "user", "content": "Write to ann@example.com."}]


@pytest.fixture(autouse=True)
def settled() -> None:
    """Each test here looks after processes of its own."""


async def start(stack: AsyncExitStack, folder: Path, upstream: Upstream, redis: RedisServer) -> Served:
    folder.mkdir()
    changes: dict[str, Any] = {
        **ADMIN,
        "storage": {"url": redis.url},
        "tenants": {"acme": {"redaction": {"mode": "mask", "entities": [EMAIL]}}},
    }
    return await stack.enter_async_context(served(folder, upstream, **changes))


async def until(gateway: Served, count: int, requests: int, within_s: float = 10.0) -> None:
    deadline_s = time.monotonic() + within_s
    wanted = [{"group": {"entity": EMAIL, "direction": "input"}, "count": count, "requests": requests}]
    while True:
        answer = await admin(gateway, "GET", "redactions?group_by=entity,direction")
        if answer.json()["data"] == wanted:
            return
        assert time.monotonic() < deadline_s, answer.body
        await asyncio.sleep(0.1)


async def test_either_answers_for_both_and_for_the_dead(tmp_path: Path) -> None:
    with redis_server() as redis:
        async with Upstream() as upstream, AsyncExitStack() as stack:
            one, two = [await start(stack, tmp_path / name, upstream, redis) for name in ("1", "2")]
            for gateway in (one, two, two):
                upstream.next(send(json_answer(chat_body("fine"))))
                assert (await gateway.chat(messages=MAIL)).status == 200
            for gateway in (one, two):
                await until(gateway, 3, 3)
            upstream.next(open_stream(chunk({"content": "one "})), hang())
            async with one.client() as client:
                await one.begin(client, "cut-short", stream=True, messages=MAIL)
                assert (await client.read_head()).status == 200
                one.signal(signal.SIGKILL)
                assert await one.ended() == -signal.SIGKILL
            await until(two, 3, 3)
            await one.start()
            await until(two, 4, 4)
            row = await one.row("cut-short")
            assert row["recovered"] is True and row["redactions"] == {"input": {EMAIL: 1}}
