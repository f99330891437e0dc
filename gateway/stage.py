"""What a middleware is: one object per process that begins a stage for each exchange."""

from __future__ import annotations

from typing import Protocol

from gateway.events import Event, Frame
from gateway.exchange import Exchange, Outcome, Reply


class Transform(Protocol):
    """Edits the answer on its way to the client; sans-IO.

    ``needs``: the event types that must be parsed before ``feed``; empty: frames pass by undecoded.
    """

    needs: frozenset[type[Event]]

    def feed(self, frames: list[Frame]) -> list[Frame]:
        """Takes the frames of one upstream read, returns what may go out now."""
        ...

    def flush(self) -> list[Frame]:
        """Returns what was held back; called once, at a good end."""
        ...


class Stage:
    """One middleware's part in one exchange. The base class does nothing; override what is needed.

    ``enter`` runs in the listed order: raise ``GatewayError`` to refuse, return a ``Reply`` to answer
    here. ``transform`` is asked in reverse order once the answer begins. ``close`` runs in reverse
    order, exactly once, also when ``enter`` raised or was cancelled; it is not async, so that nothing
    can interrupt it.
    """

    __slots__ = ()

    async def enter(self) -> Reply | None:
        return None

    def transform(self) -> Transform | None:
        return None

    def close(self, outcome: Outcome) -> None:
        """``outcome`` is final."""


class Middleware(Protocol):
    """One per process, without state of any exchange."""

    def begin(self, exchange: Exchange) -> Stage: ...
