"""A connection between a finished reader and the end of the body that it had no need to wait for.

Readers of event streams stop at the last event; the end of the body (a chunk of length 0) is often
a segment of its own, and a moment away. To drop the connection would cost a handshake a call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gateway.providers.transport.body import LINGER_S, BufferedCall


class Lingering(BufferedCall):
    """Stands in for the call on its connection, which ends it in one of four ways: the body ends,
    more of the body comes, the peer ends the connection, or ``drop`` is called after ``LINGER_S``."""

    __slots__ = ("_timer",)

    deaf = True

    def __init__(self, loop: asyncio.AbstractEventLoop, status: int, drop: Callable[[], None]) -> None:
        super().__init__(loop)
        self.status = status
        self._timer = loop.call_later(LINGER_S, drop)

    def wake(self) -> None:
        if self.ended or self.error is not None:
            self._timer.cancel()

    def disconnect(self) -> None:
        """Who aborts this drops the connection as well."""

    def linger(self) -> bool:
        return False

    def resume(self) -> None:
        """Nothing is ever buffered."""
