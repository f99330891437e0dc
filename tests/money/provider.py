"""A provider that knows what it was asked: every call, by the request's id."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from dataclasses import dataclass, field

from tests.fakes.answers import chat_body, chat_stream, chunked, error_answer, head, json_answer
from tests.fakes.upstream import Connection, Step, Upstream, send

INPUT_TOKENS, OUTPUT_TOKENS = 8, 40
USAGE = {
    "prompt_tokens": INPUT_TOKENS,
    "completion_tokens": OUTPUT_TOKENS,
    "total_tokens": INPUT_TOKENS + OUTPUT_TOKENS,
}
FAILING = "failing-model"
"""Calls for it get a 500."""
_HEAD = head("content-type: text/event-stream", "transfer-encoding: chunked")
_ID = re.compile(rb"id=<([A-Za-z0-9-]+)>")


@dataclass
class Provider(Upstream):
    """``hold_s``: how long each answer takes. ``calls``: how often each request came. ``running``: what is
    being answered, by request; ``most`` of them at a time, without those in ``leaving``, whose end the
    gateway knows first."""

    hold_s: float = 0.1
    calls: Counter[str] = field(default_factory=Counter)
    running: Counter[str] = field(default_factory=Counter)
    leaving: set[str] = field(default_factory=set)
    most: int = 0

    async def __aenter__(self) -> Provider:
        await super().__aenter__()
        return self

    def begin(self, hold_s: float) -> None:
        """A new scenario."""
        self.hold_s, self.most = hold_s, 0

    def script(self) -> tuple[Step, ...]:
        body = self.last.body
        found = _ID.search(body)
        asked = found[1].decode() if found else ""
        self.calls[asked] += 1
        native = self.last.json()
        if native["model"] == FAILING:
            return (send(error_answer("500 Internal Server Error")),)
        if native.get("stream"):
            *first, last = chat_stream(["one ", "two "], usage=USAGE)
            blocks = [chunked([one], end=False) for one in first]
            begun = send(_HEAD, *blocks, pause_s=self.hold_s / (len(first) + 1))
            return self._held(asked, begun), send(chunked([last]))
        whole = send(json_answer(chat_body("one two", usage=USAGE)))
        return self._held(asked, _after(self.hold_s)), whole

    def _held(self, asked: str, *steps: Step) -> Step:
        async def step(connection: Connection) -> None:
            self.running[asked] += 1
            self.most = max(self.most, sum(n for one, n in self.running.items() if one not in self.leaving))
            try:
                for one in steps:
                    await one(connection)
            finally:
                self.running[asked] -= 1

        return step


def _after(seconds: float) -> Step:
    """Ends early when the other side leaves."""

    async def step(connection: Connection) -> None:
        try:
            async with asyncio.timeout(seconds):
                await connection.gone.wait()
        except TimeoutError:
            return
        raise ConnectionResetError

    return step
