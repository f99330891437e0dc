"""A relay in front of a server that can be slow, or lose an answer: what was asked is carried out, then
the connection ends."""

from __future__ import annotations

import asyncio
import random
from types import TracebackType

READ_BYTES = 1 << 16


class CuttingProxy:
    """``share``: of the answers that are lost, as ``seed`` has it. ``delay_s``: by how much each answer is
    late. ``cuts``: how many connections it has ended."""

    def __init__(self, port: int, seed: int = 1) -> None:
        self._behind = port
        self._random = random.Random(seed)
        self._mark: bytes | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.share = 0.0
        self.delay_s = 0.0
        self.cuts = 0
        self.port = 0

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def cut(self, mark: bytes) -> None:
        """The answer to the next command that contains ``mark`` is lost."""
        self._mark = mark

    async def __aenter__(self) -> CuttingProxy:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, client: asyncio.StreamReader, answers: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            server, commands = await asyncio.open_connection("127.0.0.1", self._behind)
        except OSError:
            answers.close()
            return
        marked = asyncio.Event()
        there = asyncio.get_running_loop().create_task(self._ask(client, commands, marked))
        try:
            await self._answer(server, answers, marked)
        except (ConnectionError, asyncio.CancelledError):
            return  # the test is over; asyncio's streams would complain
        finally:
            there.cancel()
            commands.close()
            answers.close()

    async def _ask(
        self, client: asyncio.StreamReader, commands: asyncio.StreamWriter, marked: asyncio.Event
    ) -> None:
        try:
            while data := await client.read(READ_BYTES):
                if self._mark is not None and self._mark in data:
                    self._mark = None
                    marked.set()
                commands.write(data)
        except ConnectionError:
            pass
        commands.close()

    async def _answer(
        self, server: asyncio.StreamReader, answers: asyncio.StreamWriter, marked: asyncio.Event
    ) -> None:
        while data := await server.read(READ_BYTES):
            if marked.is_set() or self._random.random() < self.share:
                self.cuts += 1
                return
            await asyncio.sleep(self.delay_s)
            answers.write(data)
