"""One terminal log line for every exchange, refused ones included."""

from __future__ import annotations

from collections.abc import Callable

from gateway.control.keys import presented
from gateway.control.live import LiveExchanges
from gateway.exchange import Exchange, Outcome
from gateway.privacy.policy import Policy
from gateway.stage import Stage
from gateway.telemetry.log import Log

Conceal = Callable[[Policy, str], str]
"""The text without the personal data that a policy looks for."""


class Audit:
    """Outermost: it sees every end, and keeps the index of what is running."""

    def __init__(self, log: Log, live: LiveExchanges, conceal: Conceal) -> None:
        self.log = log
        self.live = live
        self.conceal = conceal

    def begin(self, exchange: Exchange) -> Stage:
        self.live.add(exchange)
        return _Record(exchange, self)


class _Record(Stage):
    __slots__ = ("_audit", "_exchange")

    def __init__(self, exchange: Exchange, audit: Audit) -> None:
        self._exchange = exchange
        self._audit = audit

    def close(self, outcome: Outcome) -> None:
        exchange = self._exchange
        self._forget(exchange)
        line = self._audit.log.begin("request", "error" if outcome.status == 500 else "info")
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
        self._audit.log.write(line)

    def _forget(self, exchange: Exchange) -> None:
        """Not running any more, but for an answer that is read on: that can still be ended."""
        drain, live = exchange.drain, self._audit.live
        if drain is None or not drain.kept:
            live.discard(exchange)
            return
        exchange.interrupt = drain.interrupt
        drain.on_end(lambda: live.discard(exchange))

    def _scrubbed(self, text: str) -> str:
        """Without secrets of ours, the caller's key (wherever it stands), and personal data."""
        exchange = self._exchange
        if exchange.key is not None:
            text = text.replace(presented(exchange.client.headers).decode("ascii"), "***")
            model = None if exchange.route is None else exchange.route.group.name
            policy = exchange.snapshot.policy(exchange.key.tenant.name, model)
            if policy is not None:
                text = self._audit.conceal(policy, text)
        return str(self._audit.log.scrub(text))
