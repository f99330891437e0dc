"""The sweep with redaction: whatever interrupts an exchange, its data is nowhere, and no search is left."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import orjson
import pytest

from gateway.interrupt import Reason
from gateway.settings import Settings
from tests.fakes.answers import chat_body, chat_stream, json_answer, stream
from tests.fakes.upstream import Step, Upstream, send
from tests.interruption import rig as rigs
from tests.interruption.rig import Rig, by_kind, by_reason
from tests.interruption.sink import MemorySink

EMAIL, MADE_UP = "jane.roe@example.com", "made.up@example.org"
SAID = f"You are [EMAIL_ADDRESS_1], not {MADE_UP}."
HEARD = f"You are {EMAIL}, not [EMAIL_ADDRESS_2]."
LONG = "Lorem ipsum dolor sit amet. " * 400
"""Searched by another process."""


@pytest.fixture(autouse=True)
def _redacts() -> Iterator[None]:
    settings = rigs._settings

    def redacting(*arguments: Any) -> Any:
        plain = settings(*arguments).model_dump(mode="python", exclude_unset=True)
        plain["tenants"]["acme"]["redaction"] = {"mode": "mask", "restore": True, "budget_s": 30}
        return Settings.model_validate(plain)

    with mock.patch.object(rigs, "_settings", redacting):
        yield


def body(kind: str, text: str) -> dict[str, Any]:
    return {"model": "m", "stream": kind == "stream", "messages": [{"role": "user", "content": text}]}


async def interrupted(rig: Rig, asked: dict[str, Any], reason: Reason | None, at: int) -> MemorySink:
    """One exchange, stopped at its ``at``-th suspension, and what must hold after it."""
    sink = MemorySink()
    await rig.interrupted(rig.exchange(asked), sink, reason, at)
    rig.check()
    assert MADE_UP.encode() not in b"".join(sink.sent)
    for row in rig.rows:
        told_all = sink.finished and b"error" not in sink.sent[-1]
        assert (row["outcome"] == "ok") == told_all
        assert EMAIL not in str(row) and MADE_UP not in str(row)
        if told_all:
            assert heard(sink) == HEARD
            assert row["redactions"] == {"input": {"EMAIL_ADDRESS": 1}, "output": {"EMAIL_ADDRESS": 1}}
    return sink


def heard(sink: MemorySink) -> str:
    raw = b"".join(sink.sent)
    if not raw.startswith(b"data: "):
        return str(orjson.loads(raw)["choices"][0]["message"]["content"])
    events = [orjson.loads(event[6:]) for event in raw.split(b"\n\n") if event[6:7] == b"{"]
    choices = [choice for event in events for choice in event["choices"]]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


def answer(kind: str) -> list[Step]:
    if kind == "stream":
        texts = [SAID[begin : begin + 7] for begin in range(0, len(SAID), 7)]
        return stream(chat_stream(texts), size=400, pause_s=0.0005)
    return [send(json_answer(chat_body(SAID)), size=200, pause_s=0.0005)]


@by_kind
@by_reason
async def test_interrupted_at_every_await(tmp_path: Path, kind: str, reason: Reason | None) -> None:
    """Masked on its way there, restored and masked on its way back."""
    async with Upstream() as upstream:
        rig = Rig(tmp_path, {"kind": "openai", "base_url": upstream.url})
        for at in rig.sweep():
            upstream.next(*answer(kind))
            sink = await interrupted(rig, body(kind, f"I am {EMAIL}."), reason, at)
            upstream.forget()
        assert rig.taken > 15
        assert heard(sink) == HEARD
        assert all(EMAIL.encode() not in seen.body for seen in upstream.seen)
        await rig.close()


@by_reason
async def test_interrupted_in_a_search_elsewhere(tmp_path: Path, reason: Reason | None) -> None:
    """The other process answers the next one all the same, with what that one asked."""
    async with Upstream() as upstream:
        rig = Rig(tmp_path, {"kind": "openai", "base_url": upstream.url})
        await rig.app.detection.start()
        for at in rig.sweep():
            upstream.next(*answer("buffered"))
            sink = await interrupted(rig, body("buffered", f"{LONG}{EMAIL}"), reason, at)
            upstream.forget()
        assert rig.taken > 15
        assert heard(sink) == HEARD
        assert all(EMAIL.encode() not in seen.body for seen in upstream.seen)
        async with asyncio.timeout(10):
            await rig.close()
