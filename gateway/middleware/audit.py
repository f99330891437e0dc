"""One terminal log line for every exchange, refused ones included."""

from __future__ import annotations

from gateway.control.keys import presented
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
        self._forget(exchange)
        line = self._log.begin("request", "error" if outcome.status == 500 else "info")
        line["request_id"] = exchange.request_id
        line["operation"] = exchange.operation._value_
        line["outcome"] = outcome.name
        line["status"] = outcome.status
        line["duration_ms"] = round(
            ((exchange.ended_s or exchange.started_s) - exchange.started_s) * 1e3, 3
        )
        if exchange.key is not None:
            line["tenant"] = exchange.key.tenant.name
            line["key"] = exchange.key.id
        if exchange.route is not None:
            line["model"] = exchange.route.group.name
        call = exchange.call
        if call is not None and (shown := call.shown) is not None:
            line["deployment"] = shown.deployment.id
            line["attempts"] = len(call.attempts)
        if exchange.request is not None:
            line["stream"] = exchange.request.stream
        error = outcome.error
        if error is not None:
            line["code"] = error.code
            line["detail"] = self._scrubbed(error.detail or error.message)
        self._log.write(line)

    def _forget(self, exchange: Exchange) -> None:
        """Not running any more, but for an answer that is read on: that can still be ended."""
        drain, live = exchange.drain, self._live
        if drain is None or not drain.kept:
            live.discard(exchange)
            return
        exchange.interrupt = drain.interrupt
        drain.on_end(lambda: live.discard(exchange))

    def _scrubbed(self, text: str) -> str:
        """Without secrets of ours, and without the caller's key, which may stand where none belongs."""
        if self._exchange.key is not None:
            text = text.replace(presented(self._exchange.client.headers).decode("ascii"), "***")
        return str(self._log.scrub(text))
