"""What one route updates in the metrics: children bound beforehand, so that an update is an
addition."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Literal

from gateway.telemetry.families import Count

if TYPE_CHECKING:
    from gateway.telemetry.metrics import Metrics

CostSource = Literal["provider", "estimated", "cached"]
_OTHER = "other"
_MAX_BOUND = 64


class RouteMetrics:
    """The children of one route, bound; get one from ``Metrics.route``."""

    __slots__ = (
        "_attempts",
        "_cost",
        "_duration",
        "_ended",
        "_input_usage",
        "_metrics",
        "_names",
        "_output_usage",
        "_overhead",
        "_per_token",
        "_tokens",
        "_ttft",
        "features",
    )

    def __init__(
        self, metrics: Metrics, names: tuple[str, str, str, str, str, str], features: frozenset[str]
    ) -> None:
        _, model, operation, provider, _, response_model = names
        operation = metrics.operation(operation)
        gen_ai = (operation, provider, model, response_model)
        self._metrics, self._names, self.features = metrics, names, features
        self._duration = metrics.duration.child(*gen_ai)
        self._ttft = metrics.ttft.child(*gen_ai)
        self._per_token = metrics.per_token.child(*gen_ai)
        self._input_usage = metrics.token_usage.child(*gen_ai, "input")
        self._output_usage = metrics.token_usage.child(*gen_ai, "output")
        self._overhead = metrics.overhead.child(operation)
        self._ended: dict[tuple[str, str], Count] = {}
        self._attempts: dict[str, Count] = {}
        self._cost: dict[tuple[str, str], Count] = {}
        self._tokens: dict[str, tuple[Count, Count]] = {}

    def ended(
        self,
        outcome: str,
        code: str,
        *,
        duration_s: float,
        overhead_s: float | None = None,
        ttft_s: float | None = None,
        output_tokens: int = 0,
    ) -> None:
        """Counts a request at its end. ``code``: the error's code, or ``ok``. ``ttft_s``: of a
        stream that had content; with ``output_tokens`` it gives the time for each later token."""
        count = self._ended.get((outcome, code))
        if count is None:
            count = self._bind_ended(outcome, code)
        count.inc()
        self._duration.observe(duration_s)
        if overhead_s is not None:
            self._overhead.observe(overhead_s)
        if ttft_s is not None:
            self._ttft.observe(ttft_s)
            if output_tokens > 1:
                self._per_token.observe((duration_s - ttft_s) / (output_tokens - 1))

    def attempt(self, outcome: str) -> None:
        """Counts one call to the deployment."""
        count = self._attempts.get(outcome)
        if count is None:
            deployment = self._names[4]
            count = self._attempts[outcome] = self._metrics.attempts.child(deployment, outcome)
        count.inc()

    def settled(
        self,
        feature: str | None,
        source: CostSource,
        *,
        input_tokens: int,
        output_tokens: int,
        cost_nanousd: int | None,
    ) -> None:
        """Counts usage and cost. ``cost_nanousd`` None: no price was known."""
        if not feature:
            feature = ""
        elif feature not in self.features:
            feature = _OTHER
        counts = self._tokens.get(feature)
        if counts is None:
            counts = self._tokens[feature] = self._bind_tokens(feature)
        counts[0].inc(input_tokens)
        counts[1].inc(output_tokens)
        self._input_usage.observe(input_tokens)
        self._output_usage.observe(output_tokens)
        self._metrics.settlements.child(source).inc()
        if cost_nanousd is None:
            self._metrics.unpriced_tokens.child(self._names[1]).inc(input_tokens + output_tokens)
            return
        cost = self._cost.get((feature, source))
        if cost is None:
            cost = self._cost[feature, source] = self._bind_cost(feature, source)
        cost.inc(cost_nanousd)

    def _bind_ended(self, outcome: str, code: str) -> Count:
        tenant, model, operation = self._names[:3]
        count = self._metrics.ended(tenant, model, operation, outcome, code)
        if len(self._ended) < _MAX_BOUND:  # a provider may invent codes
            self._ended[outcome, code] = count
        return count

    def _bind_tokens(self, feature: str) -> tuple[Count, Count]:
        tenant, model = self._names[:2]
        of_type = partial(self._metrics.tokens.child, tenant, feature, model)
        return of_type("input"), of_type("output")

    def _bind_cost(self, feature: str, source: str) -> Count:
        tenant, model, _, provider = self._names[:4]
        return self._metrics.cost.child(tenant, feature, model, provider, source)
