"""A gateway that comes close to the memory that it may have takes on less and less, until it recovers."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from signal import SIGHUP

import pytest
import pytest_asyncio

from tests.e2e.conditions import Conditions
from tests.e2e.refusals import assert_refused
from tests.e2e.rig import CHAT, chat, group, samples
from tests.e2e.served import Served, served
from tests.fakes import answers
from tests.fakes.answers import chat_body, chat_stream, json_answer, open_stream
from tests.fakes.client import request
from tests.fakes.upstream import Upstream, send, wait_for

pytestmark = pytest.mark.asyncio(loop_scope="module")

PAGE = os.sysconf("SC_PAGE_SIZE")
NOTICED_S = 5.0
SHED, CLOSE, REFUSE = 0.885, 0.935, 1.0
"""Shares of the limit, in the middle of each rung."""


@pytest_asyncio.fixture(loop_scope="module")
async def upstream() -> AsyncIterator[Upstream]:
    async with Upstream() as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def gateway(tmp_path: Path, upstream: Upstream) -> AsyncIterator[Served]:
    patient = group(timeouts={"first_event_s": 10, "idle_s": 10, "total_s": 30})
    async with served(tmp_path, upstream, models={"chat": patient}) as running:
        yield running
        await Conditions(running).check()
        assert await running.stop() == 0


@pytest.fixture(autouse=True)
def settled() -> None:
    """``gateway`` looks after its own end."""


async def short_of_memory(gateway: Served, share: float | None, pressure: int) -> None:
    """Sets the limit so that what is used is this share of it; returns when that has been noticed."""
    heard = len(gateway.log("memory_pressure"))
    used = int(Path(f"/proc/{gateway.pid}/statm").read_text().split()[1]) * PAGE
    limit = 1 << 40 if share is None else int(used / share)
    gateway.configure({"server": {"max_memory_bytes": limit}})
    gateway.signal(SIGHUP)
    deadline_s = time.monotonic() + NOTICED_S
    while not [one for one in gateway.log("memory_pressure")[heard:] if one["pressure"] == pressure]:
        assert time.monotonic() < deadline_s, gateway.log("memory_pressure")
        await asyncio.sleep(0.05)


async def pressure(gateway: Served) -> float:
    ((_, value),) = samples(await gateway.metrics())["gateway_memory_pressure"]
    return value


async def test_new_requests_are_refused_and_running_ones_go_on(gateway: Served, upstream: Upstream) -> None:
    told = asyncio.Event()
    events = chat_stream(["one ", "two "])
    rest = answers.chunked(events[3:])
    upstream.next(open_stream(*events[:3]), wait_for(told), send(rest))
    async with gateway.client() as client:
        await client.send(request(CHAT, chat(stream=True), key=gateway.key))
        await client.read_head()
        assert await client.read_event()
        await short_of_memory(gateway, SHED, 1)
        for stream in (True, False):
            got = await gateway.chat(stream=stream)
            assert_refused(got, 503, "overloaded")
        assert (await gateway.ask("/healthz", key=None)).status == 200
        assert await pressure(gateway) == 1
        told.set()
        while (event := await client.read_event()) is not None:
            last = event
        assert last == b"[DONE]"
        await client.send(request("/healthz"))  # the connection was kept
        assert (await client.read()).status == 200
    await short_of_memory(gateway, None, 0)
    upstream.next(send(json_answer(chat_body("again"))))
    assert (await gateway.chat()).status == 200
    assert await pressure(gateway) == 0


async def test_connections_are_closed_then_refused_and_it_recovers(
    gateway: Served, upstream: Upstream
) -> None:
    await short_of_memory(gateway, CLOSE, 2)
    async with gateway.client() as client:
        await client.send(request("/healthz"))
        answer = await client.read()
        assert (answer.status, answer.header("connection")) == (200, "close")
        assert await client.closed(2.0)
    await short_of_memory(gateway, REFUSE, 3)
    async with gateway.client() as client:
        answer = await client.read()  # before anything is asked
        assert_refused(answer, 503, "overloaded")
        assert await client.closed(2.0)
    await short_of_memory(gateway, None, 0)
    upstream.next(send(json_answer(chat_body("again"))))
    assert (await gateway.chat()).status == 200
