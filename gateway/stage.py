"""What a middleware is: one object per process that begins a stage for each exchange."""

from __future__ import annotations

from typing import Protocol

from gateway.exchange import Exchange, Outcome, Reply, Source


class Stage:
    """One middleware's part in one exchange. The base class does nothing; override what is needed.

    ``enter`` runs in the listed order: raise ``GatewayError`` to refuse, return a ``Reply`` to answer
    here. ``relay`` is called in reverse order once the answer begins, and may put a source of its own
    before the one that it is given. ``close`` runs in reverse order, exactly once, also when ``enter``
    raised or was cancelled; it is not async, so that nothing can interrupt it.
    """

    __slots__ = ()

    async def enter(self) -> Reply | None:
        return None

    def relay(self, source: Source, stream: bool) -> Source:
        """``stream``: the answer comes in many reads, else whole in the first."""
        return source

    def close(self, outcome: Outcome) -> None:
        """``outcome`` is final."""


class Middleware(Protocol):
    """One per process, without state of any exchange."""

    def begin(self, exchange: Exchange) -> Stage: ...
