"""Requests made to be expensive: the others must not notice."""

from __future__ import annotations

import asyncio
import http.client
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.e2e.refusals import assert_refused
from tests.e2e.rig import CHAT, Gateway, samples
from tests.fakes import answers
from tests.fakes.answers import json_answer
from tests.fakes.client import RawClient, request
from tests.fakes.upstream import Upstream, send

pytestmark = pytest.mark.asyncio(loop_scope="module")

OK = json_answer(answers.chat_body("fine", usage=None))
HUGE, BIG = 27_000_000, 10_000_000
MAX_HEALTH_S = 0.5
"""Five times what is promised: the test's own work shares the processors."""
UPLOADS = 30


@pytest.fixture(scope="module")
def changes() -> dict[str, Any]:
    return {"server": {"max_body_bytes": 32 << 20}}


class Neighbour(threading.Thread):
    """Somebody else, with a connection of their own: asks all the time, and notes the longest wait."""

    def __init__(self, gateway: Gateway) -> None:
        super().__init__()
        self._gateway = gateway
        self._leave = threading.Event()
        self.waits_s: list[float] = []
        self.statuses: set[int] = set()

    def run(self) -> None:
        connection = http.client.HTTPConnection(self._gateway.host, self._gateway.port, timeout=10)
        headers = {"authorization": f"Bearer {self._gateway.key}"}
        while not self._leave.wait(0.005):
            for path in ("/healthz", "/v1/models"):
                started_s = time.monotonic()
                connection.request("GET", path, headers=headers)
                answer = connection.getresponse()
                answer.read()
                self.waits_s.append(time.monotonic() - started_s)
                self.statuses.add(answer.status)
        connection.close()

    def leave(self) -> None:
        self._leave.set()
        self.join()


@contextmanager
def neighbour(gateway: Gateway) -> Iterator[Neighbour]:
    beside = Neighbour(gateway)
    beside.start()
    try:
        yield beside
    finally:
        beside.leave()
    assert beside.statuses == {200} and len(beside.waits_s) >= 2
    assert max(beside.waits_s) < MAX_HEALTH_S, sorted(beside.waits_s)[-5:]


def _prompt(raw: bytes) -> bytes:
    return b'{"model":"chat","messages":[{"role":"user","content":%b}]}' % raw


def _text(unit: bytes, size: int) -> bytes:
    return _prompt(b'"%b"' % (unit * (size // len(unit))))


def _parts(part: bytes, count: int) -> bytes:
    return _prompt(b"[" + b",".join(part % number for number in range(count)) + b"]")


TEXTS = {
    "prose": (b"many words ", HUGE),
    "ideographs": ("漢字".encode(), BIG),
    "backslashes": (b"\\\\", BIG),
    "quotes": (b'\\"', BIG),
    "escapes": (b"\\u00e9", BIG),
}
"""Escapes take three times as long as what they stand for: they are tried at the default size."""


@pytest.mark.parametrize("kind", TEXTS)
async def test_a_huge_prompt_holds_up_nobody(gateway: Gateway, upstream: Upstream, kind: str) -> None:
    block = request(CHAT, _text(*TEXTS[kind]), key=gateway.key)
    upstream.next(send(OK))
    with neighbour(gateway):
        async with gateway.client(30) as client:
            await client.send(block)
            got = await client.read()
    assert got.status == 200
    assert len(upstream.last.body) > BIG // 4
    upstream.last.body = b""


IMAGE = b'{"image_url":"http://h%d.example/"}'
EMPTY = b'{"n":%d}'


@pytest.mark.parametrize(("part", "count"), [(IMAGE, 120_000), (EMPTY, 120_000), (b"%d", 240_000)])
async def test_very_many_parts_hold_up_nobody(gateway: Gateway, part: bytes, count: int) -> None:
    with neighbour(gateway):
        got = await gateway.ask(CHAT, _parts(part, count))
    assert_refused(got, 400, "invalid_request")


MANY = {
    "empty lists": (CHAT, b'"x":[%b[]]' % (b"[]," * 120_000)),
    "members": (CHAT, b'"x":{%b}' % b",".join(b'"%d":1' % number for number in range(240_000))),
    "metadata": (CHAT, b'"metadata":{%b}' % b",".join(b'"%d":1' % number for number in range(240_000))),
    "tool calls": (
        CHAT,
        b'"messages":[{"role":"tool","tool_calls":[%b{}]}]' % (b'{"function":{}},' * 80_000),
    ),
    "tools": (CHAT, b'"tools":[{"function":[%b{}]}]' % (b'{"a":1},' * 120_000)),
    "token ids": ("/v1/completions", b'"prompt":[%b7]' % (b"7," * 240_000)),
    "lists of token ids": ("/v1/embeddings", b'"input":[%b[7]]' % ((b"[%b7]," % (b"7," * 115)) * 2_000)),
}


@pytest.mark.parametrize("kind", MANY)
async def test_very_many_values_hold_up_nobody(gateway: Gateway, upstream: Upstream, kind: str) -> None:
    """As many as are taken: they are read, checked, written again, and counted for the bill."""
    path, member = MANY[kind]
    body = b'{"model":"chat","messages":[{"role":"user","content":"x"}],%b}' % member
    upstream.next(send(OK))
    with neighbour(gateway):
        got = await gateway.ask(path, body)
    assert got.status == 200
    assert upstream.last.json()["model"] == "upstream-model"


NONSENSE = {
    "arrays": b"[" * HUGE,
    "objects": b'{"a":' * 5_000_000,
    "numbers": b"[" + b"0," * 10_000_000,
    "quotes": b'"' * HUGE,
    "backslashes": b"\\" * HUGE,
    "text": b'"' + b"x" * HUGE,
}


@pytest.mark.parametrize("kind", NONSENSE)
async def test_nonsense_of_any_size_holds_up_nobody(gateway: Gateway, kind: str) -> None:
    with neighbour(gateway):
        async with gateway.client(30) as client:
            await client.send(request(CHAT, NONSENSE[kind], key=gateway.key))
            assert_refused(await client.read(), 400, "invalid_request")


async def test_a_million_chunks_hold_up_nobody(gateway: Gateway) -> None:
    coded = {"content-type": "application/json", "transfer-encoding": "chunked"}
    start = request(CHAT, key=gateway.key, method="POST", headers=coded)
    with neighbour(gateway):
        async with gateway.client(30) as client:
            await client.send(start + b"1\r\n{\r\n" * 1_000_000 + b"0\r\n\r\n")
            assert_refused(await client.read(), 400, "invalid_request")


async def test_uploads_share_a_budget(gateway: Gateway, upstream: Upstream) -> None:
    """What is announced counts: the excess is refused before a byte of it has come."""
    media = {"content-type": "application/json", "content-length": str(30 << 20)}
    block = request(CHAT, key=gateway.key, method="POST", headers=media)
    clients: list[RawClient] = []
    for _ in range(UPLOADS):
        client = await gateway.client().__aenter__()
        clients.append(client)
        await client.send(block)
    got = [await client.read() for client in clients[8:]]
    for answer in got:
        assert_refused(answer, 503, "overloaded")
    for client in clients:
        await client.close()
    await _settled(gateway)
    upstream.next(send(OK))
    assert (await gateway.chat()).status == 200


async def _settled(gateway: Gateway) -> None:
    async with asyncio.timeout(3):
        while any(value for _, value in samples(await gateway.metrics())["gateway_in_flight_requests"]):
            await asyncio.sleep(0.02)
