"""The index of what is running, so that it can be ended."""

from __future__ import annotations

from collections.abc import Iterator

from gateway.exchange import Exchange
from gateway.interrupt import Reason


class LiveExchanges:
    __slots__ = ("_running",)

    def __init__(self) -> None:
        self._running: set[Exchange] = set()

    def __len__(self) -> int:
        return len(self._running)

    def __iter__(self) -> Iterator[Exchange]:
        return iter(list(self._running))

    def add(self, exchange: Exchange) -> None:
        self._running.add(exchange)

    def discard(self, exchange: Exchange) -> None:
        self._running.discard(exchange)

    def fire(self, reason: Reason) -> None:
        """Ends all of them: streams with an in-band error, the others with a status."""
        for exchange in self:
            exchange.interrupt.fire(reason)
