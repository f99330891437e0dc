"""A relay in front of Redis that loses answers: what was asked is carried out, then the connection ends."""

from __future__ import annotations

import asyncio
import random
from types import TracebackType


class Proxy:
    """``share``: of the reads from Redis that end their connection instead of being handed on. ``cuts``:
    how many did."""

    def __init__(self, port: int, seed: int = 1) -> None:
        self._behind = port
        self._random = random.Random(seed)
        self._tasks: set[asyncio.Task[None]] = set()
        self.share = 0.0
        self.cuts = 0
        self.port = 0

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Proxy:
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
        there = asyncio.get_running_loop().create_task(_relay(client, commands))
        try:
            while data := await server.read(1 << 16):
                if self._random.random() < self.share:
                    self.cuts += 1
                    return
                answers.write(data)
        except (ConnectionError, asyncio.CancelledError):
            return
        finally:
            there.cancel()
            commands.close()
            answers.close()


async def _relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
    except ConnectionError:
        pass
    writer.close()
