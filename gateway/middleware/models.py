"""``GET /v1/models[/{id}]``: what the key may ask for; answered here."""

from __future__ import annotations

from typing import Any

from gateway.events import Frame
from gateway.exchange import Exchange, Operation, Reply
from gateway.stage import Stage

_PREFIX = "/v1/models"


class Models:
    def begin(self, exchange: Exchange) -> Stage:
        return _Listing(exchange) if exchange.operation is Operation.MODELS else _NOTHING


_NOTHING = Stage()


class _Listing(Stage):
    __slots__ = ("_exchange",)

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    async def enter(self) -> Reply:
        exchange = self._exchange
        assert exchange.key is not None
        wanted = exchange.client.path.removeprefix(_PREFIX).removeprefix("/")
        names = exchange.snapshot.names_for(exchange.key)
        if exchange.client.path == _PREFIX:
            return Reply(_Body({"object": "list", "data": [_model(name) for name in names]}))
        if wanted not in names:
            raise exchange.snapshot.not_found(wanted)
        return Reply(_Body(_model(wanted)))


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "llm-gateway"}


class _Body:
    """One body, made here."""

    __slots__ = ("_native",)

    def __init__(self, native: dict[str, Any]) -> None:
        self._native: dict[str, Any] | None = native

    async def read(self) -> list[Frame]:
        native, self._native = self._native, None
        return [] if native is None else [Frame(None, native)]
