"""A client in memory, which leaves when a test likes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from gateway.interrupt import Reason


class MemorySink:
    """``sent``: what it was given, ``finished``: all of it. ``fire``: who hears that it has gone."""

    def __init__(self) -> None:
        self.started = False
        self.status = 0
        self.sent: list[bytes] = []
        self.finished = False
        self.gone = False
        self.fire: Callable[[Reason], None] = lambda reason: None
        self.before_send: Callable[[], None] = lambda: None

    def on_gone(self, fire: Callable[[Reason], None]) -> None:
        self.fire = fire

    def leave(self) -> None:
        self.gone = True
        self.fire(Reason.CLIENT_GONE)

    def keep_alive(self, head: Callable[[], Any]) -> None:
        """Silences do not occur here."""

    async def start(self, status: int, headers: Any) -> None:
        await self._wait()
        self.started, self.status = True, status

    async def send(self, payload: bytes) -> None:
        await self._wait()
        self.sent.append(payload)

    async def finish(self, payload: bytes = b"") -> None:
        await self._wait()
        self.sent.append(payload)
        self.finished = True

    async def _wait(self) -> None:
        self.before_send()
        await asyncio.sleep(0)
