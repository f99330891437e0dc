"""The gateway's metrics: their names, labels and buckets, and what the hot path updates.

Labels come from the configuration: what is not configured is counted as ``other``, so that no
client can make series. Buckets are those of the OpenTelemetry semantic conventions for generative
AI.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from functools import partial

from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from gateway.telemetry.families import (
    Count,
    Distribution,
    Family,
    Level,
    counters,
    gauges,
    histograms,
)
from gateway.telemetry.merging import Row, counter_row, gauge_row, histogram_row, rows_of
from gateway.telemetry.route_metrics import CostSource, RouteMetrics

OTHER = "other"
CODES = frozenset(
    {
        "ok",
        "invalid_request",
        "context_length_exceeded",
        "content_filter",
        "invalid_api_key",
        "model_not_allowed",
        "price_unknown",
        "key_expired",
        "kill_switch",
        "redaction_blocked",
        "not_found",
        "model_not_found",
        "method_not_allowed",
        "body_too_large",
        "unsupported_media_type",
        "idempotency_conflict",
        "headers_too_large",
        "rate_limit_exceeded",
        "concurrency_exceeded",
        "budget_exceeded",
        "upstream_rate_limited",
        "internal_error",
        "upstream_error",
        "upstream_invalid_response",
        "upstream_auth_error",
        "no_deployment_available",
        "overloaded",
        "draining",
        "storage_unavailable",
        "redaction_unavailable",
        "upstream_timeout",
        "none",
        "deadline_exceeded",
        "not_cached",
    }
)
OPERATIONS = frozenset(
    {
        "chat",
        "text_completion",
        "embeddings",
        "models",
        "responses",
        "messages",
        "count_tokens",
        "moderations",
        "images",
        "speech",
        "transcriptions",
        "rerank",
    }
)

DURATION_BUCKETS_S = tuple(round(0.01 * 2**i, 2) for i in range(14))
TTFT_BUCKETS_S = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1),
    *(0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
)
PER_TOKEN_BUCKETS_S = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
TOKEN_BUCKETS = tuple(4**i for i in range(14))
OVERHEAD_BUCKETS_S = (
    *(50e-6, 100e-6, 200e-6, 300e-6, 400e-6, 600e-6, 800e-6),
    *(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1),
)

PROPAGATION_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0)

__all__ = ["CODES", "CostSource", "Metrics", "OPERATIONS", "OTHER", "RouteMetrics"]

Shown = Callable[[], Metric]
_GEN_AI = (
    "gen_ai_operation_name",
    "gen_ai_provider_name",
    "gen_ai_request_model",
    "gen_ai_response_model",
)


class Metrics(Collector):
    """All metrics of one process, registered with ``registry`` beside those of the process itself.

    Updates belong to one thread; ``render`` may run in any. The families are attributes under their
    names without the ``gateway_`` prefix and the unit. ``operations``: what an operation label may
    say.
    """

    def __init__(self, registry: CollectorRegistry, operations: Collection[str] = OPERATIONS) -> None:
        self._registry = registry
        self._operations = frozenset(operations)
        self._shown: list[tuple[Family[Count] | Family[Level] | Family[Distribution], Shown]] = []
        self._rows: list[Callable[[], Row]] = []
        self._kept: dict[str, Collection[str]] = {}
        self._routes: dict[tuple[str, ...], RouteMetrics] = {}
        self._declare_requests()
        self._declare_money()
        self._declare_upstreams()
        self._declare_control()
        self._declare_storage()
        registry.register(self)
        process = (ProcessCollector, PlatformCollector, GCCollector)
        self._process: list[Collector] = [one(registry=registry) for one in process]

    def _declare_requests(self) -> None:
        duration = "Time of a whole request, from its head to the last byte of the answer."
        first = "Time from the head of a request to the first token of its answer."
        pace = "Time for each output token after the first one."
        usage = "Tokens of a request."
        self.duration = self._histogram(
            "gen_ai_server_request_duration_seconds", duration, DURATION_BUCKETS_S, *_GEN_AI
        )
        self.ttft = self._histogram(
            "gen_ai_server_time_to_first_token_seconds", first, TTFT_BUCKETS_S, *_GEN_AI
        )
        self.per_token = self._histogram(
            "gen_ai_server_time_per_output_token_seconds", pace, PER_TOKEN_BUCKETS_S, *_GEN_AI
        )
        self.token_usage = self._histogram(
            "gen_ai_client_token_usage", usage, TOKEN_BUCKETS, *_GEN_AI, "gen_ai_token_type"
        )
        self.requests = self._counter(
            "gateway_requests",
            "Requests that have ended.",
            *("tenant", "model", "operation", "outcome", "code"),
        )
        overhead = "Time that the gateway itself added to a request."
        self.overhead = self._histogram(
            "gateway_overhead_seconds", overhead, OVERHEAD_BUCKETS_S, "operation"
        )
        self.in_flight = self._gauge(
            "gateway_in_flight_requests", "Requests that have begun and not ended."
        ).child()
        self.event_loop_lag = self._gauge(
            "gateway_event_loop_lag_seconds", "Largest lag of the event loop in the last minute."
        ).child()
        self.memory_pressure = self._gauge(
            "gateway_memory_pressure",
            "Memory: 0 enough, 1 requests are refused, 2 connections are closed, 3 and refused.",
        ).child()

    def _declare_money(self) -> None:
        cost = "What providers bill, in US dollars."
        labels = ("tenant", "feature", "model", "provider", "source")
        self.cost = self._counter("gateway_cost_usd", cost, *labels, divisor=10**9)
        """Counted in nano-dollars, shown in dollars."""
        self.tokens = self._counter("gateway_tokens", "Tokens used.", "tenant", "feature", "model", "type")
        unpriced = "Tokens of models whose price nobody knows."
        self.unpriced_tokens = self._counter("gateway_unpriced_tokens", unpriced, "model")
        settlements = "Requests settled, by where their usage came from."
        self.settlements = self._counter(
            "gateway_settlements", settlements, "source", known=("provider", "estimated", "cached")
        )
        self.reservations_open = self._gauge(
            "gateway_reservations_open", "Reservations that are not settled yet."
        ).child()
        remaining = "Budget left: the limit less what is spent and reserved, fleet-wide."
        self.budget_remaining = self._gauge("gateway_budget_remaining_usd", remaining, "tenant")
        alerts = "Thresholds of budgets that were crossed."
        self.budget_alerts = self._counter("gateway_budget_alerts", alerts, "tenant", "share")

    def _declare_upstreams(self) -> None:
        self.attempts = self._counter(
            "gateway_upstream_attempts", "Calls to providers.", "deployment", "outcome"
        )
        self.fallbacks = self._counter(
            "gateway_fallbacks", "Requests passed on to another group.", "model", "to", "reason"
        )
        breaker = "Breaker of a deployment: 0 closed, 1 half-open, 2 open."
        self.breaker_state = self._gauge("gateway_breaker_state", breaker, "deployment")
        cooldown = "Time until a deployment is asked again."
        self.cooldown = self._gauge("gateway_cooldown_seconds", cooldown, "deployment")
        self.cache_requests = self._counter(
            "gateway_cache_requests", "Requests to the answer cache.", "model", "result"
        )

    def _declare_control(self) -> None:
        limited = "Requests refused by a limit."
        self.rate_limited = self._counter("gateway_rate_limited", limited, "tenant", "limit")
        self.redactions = self._counter(
            "gateway_redactions", "Values redacted.", "tenant", "entity", "direction"
        )
        skipped = "Texts that were not searched for personal data."
        self.redaction_skipped = self._counter("gateway_redaction_skipped", skipped, "reason")
        self.kill_switch = self._gauge("gateway_kill_switch", "Kill switches that are on.", "scope", "name")
        self.kill_switch_propagation = self._histogram(
            "gateway_kill_switch_propagation_seconds",
            "Time from the change of a kill switch until this process obeyed it.",
            PROPAGATION_BUCKETS_S,
        ).child()
        self.control_stale = self._gauge(
            "gateway_control_stale_seconds",
            "Time since kill switches and revocations were last heard of; 0 while they are.",
        ).child()
        self.config_reloads = self._counter(
            "gateway_config_reloads",
            "Changes of the configuration.",
            "result",
            known=("ok", "rejected"),
        )
        self._config_info = self._gauge(
            "gateway_config_info", "The configuration in force; always 1.", "hash"
        )

    def _declare_storage(self) -> None:
        self.storage_errors = self._counter(
            "gateway_storage_errors",
            "Failed operations of the store and of the ledger.",
            "operation",
            known=("ledger", "control"),
        )
        self.storage_degraded = self._gauge(
            "gateway_storage_degraded", "1 while the store or the ledger does not work."
        ).child()

    def route(
        self,
        tenant: str,
        model: str,
        operation: str,
        provider: str,
        deployment: str,
        response_model: str,
        features: frozenset[str] = frozenset(),
    ) -> RouteMetrics:
        """The bound children of one route; every argument is a name from the configuration.

        ``provider``: the configured name, ``response_model``: the deployment's pinned model.
        ``features``: the values that the feature label may have. Made once for equal arguments.
        """
        names = (tenant, model, operation, provider, deployment, response_model)
        route = self._routes.get(names)
        if route is None or route.features != features:
            route = self._routes[names] = RouteMetrics(self, names, features)
        return route

    def refused(self, operation: str, outcome: str, code: str, tenant: str = OTHER) -> None:
        """Counts a request that ended before it had a route; ``tenant`` from a key, if it had
        one."""
        self.ended(tenant, OTHER, operation, outcome, code).inc()

    def ended(self, tenant: str, model: str, operation: str, outcome: str, code: str) -> Count:
        """The count of requests that ended so; an unknown operation or code becomes ``other``."""
        code = code if code in CODES else OTHER
        return self.requests.child(tenant, model, self.operation(operation), outcome, code)

    def operation(self, name: str) -> str:
        return name if name in self._operations else OTHER

    def set_config(self, config_hash: str) -> None:
        """Says which configuration is in force."""
        self._config_info.forget("hash", lambda known: known == config_hash)
        self._config_info.child(config_hash).set(1)

    def retain(
        self, tenants: Collection[str], models: Collection[str], deployments: Collection[str]
    ) -> None:
        """After a reload: drops the series of what is not configured any more.

        A request that still runs on the former configuration is then counted nowhere.
        """
        kept = {"tenant": {*tenants, OTHER}, "model": {*models, OTHER}}
        kept |= {"deployment": {*deployments, OTHER}}
        kept |= {"to": kept["model"], "gen_ai_request_model": kept["model"]}
        self._kept = dict(kept)
        for family, _ in self._shown:
            for label, names in kept.items():
                family.forget(label, names.__contains__)
        self._routes = {
            names: route
            for names, route in self._routes.items()
            if names[0] in kept["tenant"] and names[1] in kept["model"] and names[4] in kept["deployment"]
        }

    def render(self) -> bytes:
        """The text exposition. Takes ≈ 0.2 ms a histogram child: call it off the event loop."""
        return generate_latest(self._registry)

    def rows(self) -> list[Row]:
        """All there is, to be added to that of other processes; as ``render`` for any thread."""
        return [row() for row in self._rows] + [row for one in self._process for row in rows_of(one)]

    def keeps(self, labels: tuple[str, ...], values: tuple[str, ...]) -> bool:
        """Whether a series is of what is configured: dead processes may have counted more."""
        named = zip(labels, values, strict=True)
        return all(value in self._kept[name] for name, value in named if name in self._kept)

    def collect(self) -> Iterable[Metric]:
        return [show() for _, show in self._shown]

    def describe(self) -> Iterable[Metric]:
        return []

    def _counter(
        self, name: str, text: str, *labels: str, known: tuple[str, ...] = (), divisor: int = 1
    ) -> Family[Count]:
        """``known``: values of the only label that are shown from the start, as 0."""
        family = Family(name, text, labels, Count, sparse=not known)
        for value in known:
            family.child(value)
        self._shown.append((family, partial(counters, family, divisor=divisor)))
        self._rows.append(partial(counter_row, family, divisor))
        return family

    def _gauge(self, name: str, text: str, *labels: str) -> Family[Level]:
        family = Family(name, text, labels, Level, sparse=False)
        self._shown.append((family, partial(gauges, family)))
        self._rows.append(partial(gauge_row, family))
        return family

    def _histogram(
        self, name: str, text: str, bounds: tuple[float, ...], *labels: str
    ) -> Family[Distribution]:
        family = Family(name, text, labels, partial(Distribution, bounds), sparse=True)
        self._shown.append((family, partial(histograms, family)))
        self._rows.append(partial(histogram_row, family, bounds))
        return family
