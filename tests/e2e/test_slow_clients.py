"""Two thousand clients that take their time: each is closed at its deadline, the others are served."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.e2e.rig import CHAT, Gateway
from tests.fakes import answers
from tests.fakes.answers import json_answer
from tests.fakes.client import request
from tests.fakes.upstream import Upstream, send

pytestmark = pytest.mark.asyncio(loop_scope="module")

OK = json_answer(answers.chat_body("fine"))
HEAD_S, BODY_S = 10.0, 30.0
LATER_S = 3.0
"""Deadlines are looked at twice a second, and a closed client may take what was said to it."""
SILENT, IN_HEAD, IN_BODY = 700, 700, 600
CONNECT_AT_A_TIME = 100
MAX_WAIT_S = 1.0


@dataclass
class Slow:
    """One connection: when it began to count, when it was closed, and what it was told."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    since_s: float
    closed_s: float = 0.0
    told: bytes = b""

    async def watch(self) -> None:
        with contextlib.suppress(ConnectionError):
            self.told = await self.reader.read()
        self.closed_s = time.monotonic()
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()

    @property
    def lasted_s(self) -> float:
        return self.closed_s - self.since_s


@dataclass
class Crowd:
    """Connections that all send ``first`` and then ``drop`` every so many seconds (0: nothing)."""

    gateway: Gateway
    first: bytes
    drop: bytes
    every_s: float
    members: list[Slow] = field(default_factory=list)

    async def gather(self, size: int) -> None:
        for start in range(0, size, CONNECT_AT_A_TIME):
            count = min(CONNECT_AT_A_TIME, size - start)
            self.members += await asyncio.gather(*(self._member() for _ in range(count)))

    async def _member(self) -> Slow:
        reader, writer = await asyncio.open_connection(self.gateway.host, self.gateway.port)
        if self.first:
            writer.write(self.first)
        return Slow(reader, writer, time.monotonic())

    async def last(self) -> None:
        """Returns when all have been closed."""
        drip = asyncio.get_running_loop().create_task(self._drip())
        await asyncio.gather(*(member.watch() for member in self.members))
        drip.cancel()
        await asyncio.gather(drip, return_exceptions=True)

    async def _drip(self) -> None:
        while self.every_s:
            await asyncio.sleep(self.every_s)
            for member in self.members:
                if not member.closed_s and not member.writer.is_closing():
                    member.writer.write(self.drop)

    def assert_closed_at(self, deadline_s: float) -> None:
        lasted_s = sorted(member.lasted_s for member in self.members)
        assert deadline_s - 0.5 <= lasted_s[0] and lasted_s[-1] <= deadline_s + LATER_S, (
            lasted_s[0],
            lasted_s[-1],
        )


@contextlib.asynccontextmanager
async def good_traffic(gateway: Gateway, upstream: Upstream) -> AsyncIterator[list[float]]:
    """Ordinary requests all the while, each on a connection of its own; gives how long each took."""
    waits_s: list[float] = []

    async def ask() -> None:
        while True:
            upstream.next(send(OK))
            started_s = time.monotonic()
            assert (await gateway.chat()).status == 200
            assert (await gateway.ask("/healthz", key=None)).status == 200
            waits_s.append(time.monotonic() - started_s)
            await asyncio.sleep(0.1)

    asking = asyncio.get_running_loop().create_task(ask())
    try:
        yield waits_s
    finally:
        asking.cancel()
        ended = await asyncio.gather(asking, return_exceptions=True)
    assert isinstance(ended[0], asyncio.CancelledError), ended


def _open_files(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def _resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


async def test_the_slow_are_closed_and_the_others_are_served(gateway: Gateway, upstream: Upstream) -> None:
    files = _open_files(gateway.pid)
    head = {"content-type": "application/json", "content-length": "1000"}
    silent = Crowd(gateway, b"", b"", 0)
    in_head = Crowd(gateway, b"GET /", b"a", 3)
    in_body = Crowd(gateway, request(CHAT, key=gateway.key, method="POST", headers=head) + b"{", b" ", 10)
    async with good_traffic(gateway, upstream) as waits_s:
        await in_body.gather(IN_BODY)
        await silent.gather(SILENT)
        await in_head.gather(IN_HEAD)
        async with asyncio.timeout(5):
            while _open_files(gateway.pid) < files + SILENT + IN_HEAD + IN_BODY:
                await asyncio.sleep(0.05)
        await asyncio.gather(*(crowd.last() for crowd in (silent, in_head, in_body)))
    silent.assert_closed_at(HEAD_S)
    in_head.assert_closed_at(HEAD_S)
    in_body.assert_closed_at(BODY_S)
    assert {member.told for member in silent.members} == {b""}
    for crowd, text in ((in_head, b"The headers did not come"), (in_body, b"The body did not come")):
        assert all(member.told.startswith(b"HTTP/1.1 400 ") for member in crowd.members)
        assert all(text in member.told for member in crowd.members)
    assert len(waits_s) > 100 and max(waits_s) < MAX_WAIT_S, sorted(waits_s)[-5:]
    async with asyncio.timeout(5):
        while _open_files(gateway.pid) > files + 10:
            await asyncio.sleep(0.05)
    assert _resident_bytes(gateway.pid) < 400 << 20
