"""What operators have stopped is refused before it costs anything."""

from __future__ import annotations

from gateway.control.control import Control
from gateway.exchange import Exchange
from gateway.stage import Stage


class KillSwitch:
    """Needs the route; providers and deployments are passed over by routing."""

    def __init__(self, control: Control) -> None:
        self._control = control

    def begin(self, exchange: Exchange) -> Stage:
        return _Check(exchange, self._control)


class _Check(Stage):
    __slots__ = ("_control", "_exchange")

    def __init__(self, exchange: Exchange, control: Control) -> None:
        self._exchange = exchange
        self._control = control

    async def enter(self) -> None:
        self._control.check(self._exchange)
