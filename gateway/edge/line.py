"""A worker's line to the process that started it: what it is told to do, and what all workers say."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal

from gateway.errors import Unavailable
from gateway.frames import Message, frame, read_frame, write_frame

PUSH_S = 1.0
"""How often a worker tells its state unasked: what a killed one counted since is lost."""
ANSWER_S = 2.0
LAST_WORDS_S = 1.0

Order = Literal["drain", "hurry", "reload"]
"""``hurry``: what still drains ends at once."""
State = dict[str, Any]


@dataclass(slots=True, frozen=True)
class Told:
    """What worker ``number`` said ``age_s`` seconds ago; None: it is being started."""

    number: int
    age_s: float
    state: State | None


@dataclass(slots=True, frozen=True)
class Gathered:
    """``dead``: the counters of workers that are no more."""

    workers: list[Told]
    dead: list[Any]


class Line:
    """Of worker ``number``, over the connected socket ``fd``. ``obey`` is told the parent's orders, and to
    drain when the parent is gone."""

    def __init__(self, number: int, fd: int) -> None:
        os.set_inheritable(fd, False)
        self.number = number
        self.obey: Callable[[Order], None] = lambda order: None
        self._socket = socket.socket(fileno=fd)
        self._plain = self._socket.dup()
        self._asked = 0
        self._waiting: dict[int, asyncio.Future[Message]] = {}

    async def open(self) -> None:
        self._reader, self._writer = await asyncio.open_unix_connection(sock=self._socket)

    def refuse(self, reasons: list[str]) -> None:
        """Says why this worker cannot start; outside of any event loop."""
        try:
            self._plain.sendall(frame({"kind": "refused", "reasons": reasons}))
        except OSError:
            pass  # nobody is there to hear it

    def ready(self) -> None:
        write_frame(self._writer, {"kind": "ready"})

    async def listen(self, state: Callable[[], Awaitable[State]]) -> None:
        while (message := await read_frame(self._reader)) is not None:
            if message["kind"] == "order":
                self.obey(message["order"])
            elif message["kind"] == "tell":
                self._tell(await state(), message["round"])
            elif message["kind"] == "gathered":
                answered = self._waiting.get(message["id"])
                if answered is not None and not answered.done():
                    answered.set_result(message)
        self.obey("drain")

    async def push(self, state: Callable[[], Awaitable[State]]) -> None:
        while True:
            await asyncio.sleep(PUSH_S)
            if not self._writer.transport.get_write_buffer_size():  # else the parent is not reading
                self._tell(await state(), 0)

    async def collect(self) -> Gathered:
        """What all workers say now. Raises ``Unavailable`` when the parent does not answer."""
        self._asked += 1
        number = self._asked
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        write_frame(self._writer, {"kind": "collect", "id": number})
        try:
            message = await asyncio.wait_for(answer, ANSWER_S)
        except TimeoutError:
            raise Unavailable("The process that started the workers does not answer.") from None
        finally:
            self._waiting.pop(number, None)
        told = [Told(one["worker"], one["age_s"], one["state"]) for one in message["workers"]]
        return Gathered(told, message["dead"])

    async def close(self, state: State) -> None:
        """With the last state, so that nothing that was counted is lost."""
        self._tell(state, 0)
        self._writer.close()
        try:
            async with asyncio.timeout(LAST_WORDS_S):
                await self._writer.wait_closed()
        except OSError:
            pass

    def _tell(self, state: State, round_: int) -> None:
        write_frame(self._writer, {"kind": "state", "round": round_, "state": state})


def age_s(heard_s: float) -> float:
    """Seconds since a monotonic time."""
    return round(max(time.monotonic() - heard_s, 0.0), 3)
