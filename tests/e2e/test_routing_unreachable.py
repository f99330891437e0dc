"""Deployments that cannot be reached or say nothing: the next one answers, and the ledger tells."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from typing import Any

import pytest
import pytest_asyncio

from tests.e2e import routes
from tests.e2e.rig import Gateway
from tests.e2e.routes import ANSWER_USD, Providers, pool, routing, said, tried, whole
from tests.fakes.upstream import Step, fin, hang, reset, send, wait

pytestmark = pytest.mark.asyncio(loop_scope="module")

upstream = routes.upstream
NOT_STALE_S = 0.35
"""A kept connection that ends sooner after a request is taken for one that had been given up before."""
UNREACHABLE = ["refusing", "nowhere", "no-tls", "black-hole"]
SILENT: dict[str, tuple[Step, ...]] = {
    "hangs": (hang(),),
    "resets": (wait(NOT_STALE_S), reset()),
    "leaves": (wait(NOT_STALE_S), fin()),
    "half-a-head": (send(b"HTTP/1.1 200 O"), hang()),
}


@pytest.fixture(scope="module")
def nobody() -> Iterator[int]:
    """A port where nobody listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


@pytest.fixture(scope="module")
def black_hole() -> Iterator[int]:
    """A port whose queue is full: it answers no SYN."""
    with socket.socket() as full, socket.socket() as one, socket.socket() as two:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for caller in (one, two):
            caller.setblocking(False)
            caller.connect_ex(full.getsockname())
        yield full.getsockname()[1]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def no_tls() -> AsyncIterator[int]:
    """A port that speaks, but not TLS."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


@pytest.fixture(scope="module")
def changes(upstream: Providers, nobody: int, black_hole: int, no_tls: int) -> dict[str, Any]:
    urls = {
        "refusing": f"http://127.0.0.1:{nobody}/v1",
        "nowhere": "http://nowhere.invalid/v1",
        "no-tls": f"https://127.0.0.1:{no_tls}/v1",
        "black-hole": f"http://127.0.0.1:{black_hole}/v1",
    }
    groups = {name: pool(name, "a") for name in UNREACHABLE}
    groups |= {name: pool("a", "b") for name in SILENT}
    groups |= {f"only-{name}": pool(name, retry={"attempts": 1}) for name in UNREACHABLE}
    impatient = {"connect_s": 1, "first_event_s": 0.2}
    groups["impatient"] = pool("black-hole", retry={"attempts": 1}, timeouts=impatient)
    return routing(upstream, groups, **urls)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("name", UNREACHABLE)
async def test_who_cannot_be_reached_is_passed_over(
    gateway: Gateway, upstream: Providers, name: str, stream: bool
) -> None:
    upstream.once(f"{name}-2", *whole(stream))
    began_s = time.monotonic()
    got = await gateway.chat(model=name, stream=stream)
    assert said(got) == "fine"
    assert time.monotonic() - began_s < 3.0
    code = "upstream_timeout" if name == "black-hole" else "upstream_error"
    assert await tried(gateway, got) == [(f"{name}-1", code), (f"{name}-2", "ok")]
    row = await gateway.row(got.header("x-request-id") or "")
    assert row["cost_usd"] == row["charged_usd"] == ANSWER_USD


@pytest.mark.parametrize("name", UNREACHABLE)
async def test_who_cannot_be_reached_and_is_alone_costs_nothing(gateway: Gateway, name: str) -> None:
    got = await gateway.chat(model=f"only-{name}")
    expected = (504, "upstream_timeout") if name == "black-hole" else (502, "upstream_error")
    assert (got.status, got.code) == expected
    row = await gateway.row(got.header("x-request-id") or "")
    assert row["cost_usd"] == row["charged_usd"] == "0.000000000"


async def test_no_event_in_time_from_a_connection_that_never_was_costs_nothing(gateway: Gateway) -> None:
    got = await gateway.chat(model="impatient", stream=True)
    assert (got.status, got.code) == (504, "upstream_timeout")
    assert (await gateway.row(got.header("x-request-id") or ""))["cost_usd"] == "0.000000000"


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("name", SILENT)
async def test_who_takes_the_request_and_never_answers_is_passed_over(
    gateway: Gateway, upstream: Providers, name: str, stream: bool
) -> None:
    upstream.once(f"{name}-1", *SILENT[name])
    upstream.once(f"{name}-2", *whole(stream))
    got = await gateway.chat(model=name, stream=stream)
    assert said(got) == "fine"
    code = "upstream_timeout" if SILENT[name][-1].__qualname__.startswith("hang") else "upstream_error"
    assert await tried(gateway, got) == [(f"{name}-1", code), (f"{name}-2", "ok")]
    if code == "upstream_timeout":
        await upstream.seen[-2].left(1.0)
    row = await gateway.row(got.header("x-request-id") or "")
    assert row["charged_usd"] == ANSWER_USD
    assert Decimal(row["cost_usd"]) > Decimal(ANSWER_USD)  # it may have worked, and will bill
