"""One terminal log line for every exchange, refused ones included."""

from __future__ import annotations

from gateway.control.live import LiveExchanges
from gateway.exchange import Exchange, Outcome
from gateway.stage import Stage
from gateway.telemetry.log import Log


class Audit:
    """Outermost: it sees every end, and keeps the index of what is running."""

    def __init__(self, log: Log, live: LiveExchanges) -> None:
        self._log = log
        self._live = live

    def begin(self, exchange: Exchange) -> Stage:
        self._live.add(exchange)
        return _Record(exchange, self._log, self._live)


class _Record(Stage):
    __slots__ = ("_exchange", "_live", "_log")

    def __init__(self, exchange: Exchange, log: Log, live: LiveExchanges) -> None:
        self._exchange = exchange
        self._log = log
        self._live = live

    def close(self, outcome: Outcome) -> None:
        exchange = self._exchange
        self._live.discard(exchange)
        fields: dict[str, str | int | float | bool | None] = {
            "request_id": exchange.request_id,
            "operation": exchange.operation.value,
            "outcome": outcome.name,
            "status": outcome.status,
            "duration_ms": _ms((exchange.ended_s or exchange.started_s) - exchange.started_s),
        }
        if exchange.key is not None:
            fields["tenant"] = exchange.key.tenant.name
            fields["key"] = exchange.key.id
        if exchange.route is not None:
            fields["model"] = exchange.route.group.name
        call = exchange.call
        if call is not None and call.last is not None:
            fields["deployment"] = call.last.deployment.id
            fields["attempts"] = len(call.attempts)
        if exchange.request is not None:
            fields["stream"] = exchange.request.stream
        error = outcome.error
        if error is not None:
            fields["code"] = error.code
            fields["detail"] = self._log.scrub(error.detail or error.message)
        level = "error" if outcome.status == 500 else "info"
        self._log.event("request", level=level, **fields)


def _ms(seconds: float) -> float:
    return round(seconds * 1e3, 3)
