"""A relay in front of Redis that can be slow, or lose an answer: the command is carried out, then the
connection ends."""

from __future__ import annotations

import asyncio
from types import TracebackType


class Cutter:
    """``cuts``: how many connections it has ended. ``delay_s``: by how much each answer is late."""

    def __init__(self, port: int) -> None:
        self._behind = port
        self._mark: bytes | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.cuts = 0
        self.delay_s = 0.0
        self.port = 0

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def cut(self, mark: bytes) -> None:
        """The answer to the next command that contains ``mark`` is lost."""
        self._mark = mark

    async def __aenter__(self) -> Cutter:
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

    async def _serve(self, client: asyncio.StreamReader, answer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        server, command = await asyncio.open_connection("127.0.0.1", self._behind)
        loop = asyncio.get_running_loop()
        back = loop.create_task(self._relay_answers(server, answer))
        try:
            while data := await client.read(1 << 16):
                command.write(data)
                if self._mark is not None and self._mark in data:
                    self._mark = None
                    self.cuts += 1
                    back.cancel()
                    await asyncio.sleep(0.02)
                    return
        except asyncio.CancelledError:
            pass  # the test is over; asyncio's streams would complain
        finally:
            back.cancel()
            command.close()
            answer.close()

    async def _relay_answers(self, server: asyncio.StreamReader, answer: asyncio.StreamWriter) -> None:
        while data := await server.read(1 << 16):
            await asyncio.sleep(self.delay_s)
            answer.write(data)
