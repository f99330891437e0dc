"""One connection to a Redis server, shared by all who ask: what is asked in one turn of the loop goes out
in one write, and answers come in the order of the questions."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, cast

import hiredis

from gateway.storage.interface import StoreLost

SILENCE_S = 1.0
"""After a silence this long, with answers due, the connection is given up."""
LATE_S = 0.02
"""A deadline that is noticed this late was noticed by a loop that could not read answers either."""
Reply = Any
"""bytes, int, None, a list of these, or a ``hiredis.ReplyError``, which is returned and not raised."""


Word = str | bytes | int


def pack(*words: Word) -> bytes:
    """A command as it goes over the wire."""
    packed: bytes = hiredis.pack_command(words)  # type: ignore[arg-type]
    return packed


class LinkLost(StoreLost):
    """The connection ended before the answer."""


class LinkSilent(StoreLost):
    """The answer did not come in time."""


class Link(asyncio.Protocol):
    """Whoever gives up waiting leaves a place in the line, where the late answer is thrown away."""

    __slots__ = (
        "_answer_s",
        "_due",
        "_heard_s",
        "_late",
        "_loop",
        "_reader",
        "_timer",
        "_transport",
        "_unsent",
        "closed",
        "name",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, name: str, answer_s: float) -> None:
        self._loop = loop
        self.name = name
        self._answer_s = answer_s
        self.closed = False
        self._transport: asyncio.Transport | None = None
        self._reader = hiredis.Reader()
        self._due: deque[tuple[asyncio.Future[Reply], float]] = deque()
        self._unsent: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None
        self._heard_s = 0.0
        self._late = False

    def ask(self, command: bytes) -> asyncio.Future[Reply]:
        """The answer to come; it fails with ``LinkLost`` or ``LinkSilent``."""
        loop = self._loop
        answer: asyncio.Future[Reply] = loop.create_future()
        if self.closed:
            answer.set_exception(LinkLost(f"The connection to Redis at {self.name} has ended."))
            return answer
        unsent = self._unsent
        if not unsent:
            loop.call_soon(self._flush)
        unsent.append(command)
        now_s = loop.time()
        due_s = now_s + self._answer_s
        if not self._due:
            self._heard_s = now_s
        self._due.append((answer, due_s))
        if self._timer is None:
            self._timer = loop.call_at(due_s, self._overdue)
        return answer

    def close(self, reason: str = "it was closed") -> None:
        if self.closed:
            return
        self.closed = True
        if self._transport is not None:
            self._transport.abort()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due, self._due = self._due, deque()
        for answer, _ in due:
            if not answer.done():
                answer.set_exception(LinkLost(f"The connection to Redis at {self.name} ended: {reason}."))

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        reader, due = self._reader, self._due
        self._heard_s = self._loop.time()
        try:
            reader.feed(data)
            while (reply := reader.gets()) is not False:
                answer, _ = due.popleft()
                if not answer.done():
                    answer.set_result(reply)
        except (hiredis.ProtocolError, IndexError):
            self.close("what came is no answer of Redis")

    def connection_lost(self, exc: Exception | None) -> None:
        self.close(str(exc) if exc else "the server closed it")

    # --

    def _flush(self) -> None:
        unsent, self._unsent = self._unsent, []
        if self._transport is not None and not self.closed:
            self._transport.write(unsent[0] if len(unsent) == 1 else b"".join(unsent))

    def _overdue(self) -> None:
        self._timer = None
        now_s = self._loop.time()
        if not self._late and self._due and now_s - self._due[0][1] > LATE_S:
            self._late = True  # this process was busy: answers may have come, and are read first
            self._timer = self._loop.call_at(now_s + LATE_S, self._overdue)
            return
        self._late = False
        for answer, due_s in self._due:
            if due_s > now_s:
                self._timer = self._loop.call_at(due_s, self._overdue)
                break
            if not answer.done():
                answer.set_exception(
                    LinkSilent(f"Redis at {self.name} did not answer in {self._answer_s * 1e3:.0f} ms.")
                )
        if self._due and now_s - self._heard_s > SILENCE_S:
            self.close("it was silent")
