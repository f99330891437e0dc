"""What the metrics say of an exchange: counted once, at its end."""

from __future__ import annotations

from gateway.exchange import Exchange, Outcome
from gateway.stage import Stage
from gateway.telemetry.metrics import OTHER, Metrics

NO_CODE = "none"


class Measure:
    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def begin(self, exchange: Exchange) -> Stage:
        self._metrics.in_flight.inc()
        return _Measurement(exchange, self._metrics)


class _Measurement(Stage):
    __slots__ = ("_exchange", "_metrics")

    def __init__(self, exchange: Exchange, metrics: Metrics) -> None:
        self._exchange = exchange
        self._metrics = metrics

    def close(self, outcome: Outcome) -> None:
        exchange = self._exchange
        self._metrics.in_flight.dec()
        code = outcome.code or ("ok" if outcome.name == "ok" else NO_CODE)
        if exchange.route is None:
            tenant = OTHER if exchange.key is None else exchange.key.tenant.name
            self._metrics.refused(exchange.operation.value, outcome.name, code, tenant)
            return
        ended_s = exchange.ended_s or exchange.started_s
        first_s = None
        output = 0
        call = exchange.call
        if call is not None and call.answering is not None:
            first_s = call.first_content_s
            output = call.bill().usage.output
        streamed = exchange.request is not None and exchange.request.stream
        answered_by = None if call is None else call.answered_by
        exchange.route.metrics(answered_by).ended(
            outcome.name,
            code,
            duration_s=ended_s - exchange.started_s,
            overhead_s=_overhead_s(exchange),
            ttft_s=first_s - exchange.started_s if first_s is not None and streamed else None,
            output_tokens=output,
        )


def _overhead_s(exchange: Exchange) -> float | None:
    """Until the head went out, without the time spent waiting for the upstream."""
    if exchange.head_sent_s is None:
        return None
    upstream_s = exchange.call.waited_s(exchange.head_sent_s) if exchange.call is not None else 0.0
    return max(exchange.head_sent_s - exchange.started_s - upstream_s, 0.0)
