"""Tasks that the application owns: held, named, and never silent when they fail."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

Failed = Callable[[str, BaseException, str], None]

AGAIN_S = 0.5


class Tasks:
    """``failed``: told of an exception that ends a task; the others go on."""

    def __init__(self, failed: Failed) -> None:
        self._failed = failed
        self._running: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return task

    def keep(self, work: Callable[[], Coroutine[Any, Any, None]], name: str) -> asyncio.Task[None]:
        """For work that never ends: whatever it raises is reported, and it begins again."""
        return self.spawn(self._kept(work, name), name)

    async def _kept(self, work: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
        while True:
            try:
                await work()
            except Exception as error:  # the supervisor's guard: one fault must not end it for good
                self._failed(f"task_failed:{name}", error, "")
            await asyncio.sleep(AGAIN_S)

    async def close(self) -> None:
        """Cancels what still runs and waits for it: again and again, for libraries may swallow it."""
        while self._running:
            for task in self._running:
                task.cancel()
            await asyncio.wait(self._running, timeout=AGAIN_S)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failed(f"task_failed:{task.get_name()}", error, "")
