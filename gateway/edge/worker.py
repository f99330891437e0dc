"""A worker as the process that started it sees it."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import time
from collections.abc import Callable
from typing import Any

from gateway.edge.line import Order, age_s
from gateway.frames import Message, read_frame, write_frame

MOST_QUEUED_BYTES = 1 << 16
"""A worker that reads nothing is told nothing more but orders."""

Command = Callable[[int, int, int], list[str]]
"""What to run for a worker's number, the file descriptor to listen on, and that of its line."""


class Worker:
    """One process. ``state``: what it said last, in the ``round`` of questions that it answered last;
    ``refused``: why it could not start."""

    def __init__(self, number: int, process: subprocess.Popen[bytes]) -> None:
        self.number, self.process = number, process
        self.began_s = self.heard_s = time.monotonic()
        self.ready = False
        self.gone = False
        self.refused: list[str] = []
        self.state: dict[str, Any] | None = None
        self.round = 0

    async def open(self, line: socket.socket) -> None:
        self._reader, self._writer = await asyncio.open_unix_connection(sock=line)

    def order(self, order: Order) -> None:
        write_frame(self._writer, {"kind": "order", "order": order})

    def tell(self, message: Message) -> None:
        if self._writer.transport.get_write_buffer_size() <= MOST_QUEUED_BYTES:
            write_frame(self._writer, message)

    async def read(self) -> Message | None:
        """The next message, None when it has ended."""
        message = await read_frame(self._reader)
        if message is not None and message["kind"] == "state":
            self.state, self.heard_s = message["state"], time.monotonic()
            self.round = max(self.round, message["round"])
        return message

    async def ended(self) -> int:
        """Its exit code, negative for a signal."""
        self.gone = True
        self._writer.close()
        return await asyncio.to_thread(self.process.wait)

    def told(self) -> dict[str, Any]:
        return {"worker": self.number, "age_s": age_s(self.heard_s), "state": self.state}


async def launch(number: int, listener: socket.socket, command: Command) -> Worker:
    """Raises ``OSError``."""
    ours, theirs = socket.socketpair()
    try:
        with theirs:
            fds = (listener.fileno(), theirs.fileno())
            worker = Worker(number, _spawn(command(number, *fds), fds))
    except BaseException:
        ours.close()
        raise
    await worker.open(ours)
    return worker


def _spawn(words: list[str], fds: tuple[int, ...]) -> subprocess.Popen[bytes]:
    """The process has a group of its own: what a terminal sends to the group of this one, it hears of
    once."""
    return subprocess.Popen(words, pass_fds=fds, stdin=subprocess.DEVNULL, process_group=0)  # noqa: S603
