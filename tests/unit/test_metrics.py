from __future__ import annotations

import shutil
import subprocess
import threading
import time

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from gateway.telemetry.metrics import Metrics, RouteMetrics

GEN_AI = {
    "gen_ai_operation_name": "chat",
    "gen_ai_provider_name": "openai",
    "gen_ai_request_model": "gpt-4o",
    "gen_ai_response_model": "gpt-4o-2024-11-20",
}
PROMISED = {
    "gen_ai_server_request_duration_seconds": set(GEN_AI),
    "gen_ai_server_time_to_first_token_seconds": set(GEN_AI),
    "gen_ai_server_time_per_output_token_seconds": set(GEN_AI),
    "gen_ai_client_token_usage": {*GEN_AI, "gen_ai_token_type"},
    "gateway_requests_total": {"tenant", "model", "operation", "outcome", "code"},
    "gateway_overhead_seconds": {"operation"},
    "gateway_in_flight_requests": set(),
    "gateway_cost_usd_total": {"tenant", "feature", "model", "provider", "source"},
    "gateway_tokens_total": {"tenant", "feature", "model", "type"},
    "gateway_upstream_attempts_total": {"deployment", "outcome"},
    "gateway_fallbacks_total": {"model", "to", "reason"},
    "gateway_breaker_state": {"deployment"},
    "gateway_cooldown_seconds": {"deployment"},
    "gateway_rate_limited_total": {"tenant", "limit"},
    "gateway_budget_remaining_usd": {"tenant"},
    "gateway_redactions_total": {"tenant", "entity", "direction"},
    "gateway_redaction_skipped_total": {"reason"},
    "gateway_cache_requests_total": {"model", "result"},
    "gateway_kill_switch": {"scope", "name"},
    "gateway_kill_switch_propagation_seconds": set(),
    "gateway_control_stale_seconds": set(),
    "gateway_storage_errors_total": {"operation"},
    "gateway_storage_degraded": set(),
    "gateway_settlements_total": {"source"},
    "gateway_reservations_open": set(),
    "gateway_config_reloads_total": {"result"},
    "gateway_config_info": {"hash"},
    "gateway_unpriced_tokens_total": {"model"},
    "gateway_event_loop_lag_seconds": set(),
    "gateway_memory_pressure": set(),
}


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(CollectorRegistry())


def route_of(metrics: Metrics, tenant: str = "acme", model: str = "gpt-4o") -> RouteMetrics:
    return metrics.route(
        tenant=tenant,
        model=model,
        operation="chat",
        provider="openai",
        deployment=f"{model}-1",
        response_model="gpt-4o-2024-11-20",
        features=frozenset({"search"}),
    )


def samples(metrics: Metrics) -> dict[str, dict[frozenset[tuple[str, str]], float]]:
    """Values by sample name and labels."""
    found: dict[str, dict[frozenset[tuple[str, str]], float]] = {}
    for family in text_string_to_metric_families(metrics.render().decode()):
        for sample in family.samples:
            found.setdefault(sample.name, {})[frozenset(sample.labels.items())] = sample.value
    return found


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return samples(metrics).get(name, {}).get(frozenset(labels.items()))


def use_everything(metrics: Metrics) -> None:
    route = route_of(metrics)
    route.attempt("ok")
    route.ended("ok", "ok", duration_s=0.8, overhead_s=3e-4, ttft_s=0.3, output_tokens=201)
    for cost in (1_234_500, None):
        route.settled("search", "provider", input_tokens=1000, output_tokens=201, cost_nanousd=cost)
    metrics.fallbacks.child("gpt-4o", "gpt-4o", "error").inc()
    metrics.rate_limited.child("acme", "rpm").inc()
    metrics.redactions.child("acme", "EMAIL_ADDRESS", "input").inc()
    metrics.redaction_skipped.child("size").inc()
    metrics.cache_requests.child("gpt-4o", "hit").inc()
    metrics.breaker_state.child("gpt-4o-1").set(2)
    metrics.cooldown.child("gpt-4o-1").set(1.5)
    metrics.budget_remaining.child("acme").set(99.5)
    metrics.kill_switch.child("all", "").set(1)
    metrics.kill_switch_propagation.observe(0.1)
    metrics.set_config("abc123")


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
@pytest.mark.parametrize("used", [False, True])
def test_promtool_accepts_the_text(metrics: Metrics, used: bool) -> None:
    if used:
        use_everything(metrics)
    command = ["promtool", "check", "metrics"]
    done = subprocess.run(command, input=metrics.render(), capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_every_promised_metric_has_its_name_and_labels(metrics: Metrics) -> None:
    use_everything(metrics)
    shown: dict[str, set[str]] = {}
    for name, children in samples(metrics).items():
        base = name.removesuffix("_bucket").removesuffix("_sum").removesuffix("_count")
        for labels in children:
            shown.setdefault(base, set()).update(label for label, text in labels if text)
            shown[base].discard("le")
    shown["gateway_kill_switch"].add("name")  # empty for the scope `all`
    assert {name: shown.get(name) for name in PROMISED} == PROMISED
    assert not [name for name in shown if name.endswith("_created")]
    assert {"process_resident_memory_bytes", "process_open_fds"} <= set(shown)


def test_a_request_is_counted_everywhere(metrics: Metrics) -> None:
    use_everything(metrics)
    tenant = {"tenant": "acme", "model": "gpt-4o"}
    ended = {**tenant, "operation": "chat", "outcome": "ok", "code": "ok"}
    assert value(metrics, "gateway_requests_total", **ended) == 1
    duration = "gen_ai_server_request_duration_seconds"
    assert value(metrics, f"{duration}_count", **GEN_AI) == 1
    assert value(metrics, f"{duration}_sum", **GEN_AI) == 0.8
    assert value(metrics, f"{duration}_bucket", **GEN_AI, le="0.64") == 0
    assert value(metrics, f"{duration}_bucket", **GEN_AI, le="1.28") == 1
    assert value(metrics, f"{duration}_bucket", **GEN_AI, le="81.92") == 1
    pace = value(metrics, "gen_ai_server_time_per_output_token_seconds_sum", **GEN_AI)
    assert pace == pytest.approx(0.0025)
    usage = {**GEN_AI, "gen_ai_token_type": "output"}
    assert value(metrics, "gen_ai_client_token_usage_sum", **usage) == 402
    feature = {**tenant, "feature": "search"}
    assert value(metrics, "gateway_tokens_total", **feature, type="input") == 2000
    cost = value(metrics, "gateway_cost_usd_total", **feature, provider="openai", source="provider")
    assert cost == 0.0012345
    assert value(metrics, "gateway_unpriced_tokens_total", model="gpt-4o") == 1201
    assert value(metrics, "gateway_settlements_total", source="provider") == 2
    assert value(metrics, "gateway_upstream_attempts_total", deployment="gpt-4o-1", outcome="ok") == 1


@pytest.mark.parametrize(("seconds", "le"), [(0.01, "0.01"), (0.0100001, "0.02"), (100.0, "+Inf")])
def test_a_bound_belongs_to_its_bucket(metrics: Metrics, seconds: float, le: str) -> None:
    route_of(metrics).ended("ok", "ok", duration_s=seconds)
    buckets = samples(metrics)["gen_ai_server_request_duration_seconds_bucket"]
    counted = [dict(labels)["le"] for labels, count in buckets.items() if count == 1]
    assert min(counted, key=float) == le
    assert "gen_ai_server_time_to_first_token_seconds_bucket" not in samples(metrics)


def test_costs_are_summed_exactly(metrics: Metrics) -> None:
    route = route_of(metrics)
    for _ in range(10_000):
        route.settled(None, "provider", input_tokens=1, output_tokens=1, cost_nanousd=1)
    ((_, count),) = metrics.cost.children()
    assert count.value == 10_000
    assert "".join(map(str, samples(metrics)["gateway_cost_usd_total"].values())) == "1e-05"


def test_x177_clients_cannot_make_series(metrics: Metrics) -> None:
    route = route_of(metrics)
    for n in range(2_000):
        route.settled(f"f{n}", "estimated", input_tokens=1, output_tokens=1, cost_nanousd=1)
        route.ended("error", f"code-{n}", duration_s=1)
        metrics.refused(f"op-{n}", "refused", f"code-{n}")
    families = [family for family, _ in metrics._shown]
    assert sum(map(len, families)) < 40
    assert len(metrics.cost) == 1 and len(metrics.requests) == 2
    assert all("other" in values for values, _ in metrics.cost.children())
    assert len(route._ended) <= 64


def test_reloads_leave_nothing_behind(metrics: Metrics) -> None:
    sizes = []
    for n in range(50):
        route = route_of(metrics, f"tenant-{n}", f"model-{n}")
        route.attempt("ok")
        route.ended("ok", "ok", duration_s=1, ttft_s=0.5, output_tokens=9)
        route.settled("search", "provider", input_tokens=1, output_tokens=1, cost_nanousd=1)
        metrics.refused("chat", "refused", "invalid_api_key")
        metrics.set_config(f"hash-{n}")
        metrics.retain([f"tenant-{n}"], [f"model-{n}"], [f"model-{n}-1"])
        sizes.append(sum(len(family) for family, _ in metrics._shown))
    assert len(set(sizes)) == 1
    assert len(metrics._routes) == 1
    text = metrics.render().decode()
    assert "tenant-48" not in text and "model-48" not in text and "hash-48" not in text
    assert "tenant-49" in text and "hash-49" in text
    refused = {"tenant": "other", "model": "other", "operation": "chat"}
    refused |= {"outcome": "refused", "code": "invalid_api_key"}
    assert value(metrics, "gateway_requests_total", **refused) == 50


def test_counts_survive_a_reload(metrics: Metrics) -> None:
    route_of(metrics).attempt("ok")
    metrics.retain(["acme"], ["gpt-4o"], ["gpt-4o-1"])
    route_of(metrics).attempt("ok")
    assert value(metrics, "gateway_upstream_attempts_total", deployment="gpt-4o-1", outcome="ok") == 2


def test_gauges_can_ask_when_they_are_shown(metrics: Metrics) -> None:
    metrics.event_loop_lag.set_source(lambda: 0.25)
    metrics.in_flight.inc()
    metrics.in_flight.inc()
    metrics.in_flight.dec()
    assert value(metrics, "gateway_event_loop_lag_seconds") == 0.25
    assert value(metrics, "gateway_in_flight_requests") == 1


def test_rendering_in_a_thread_meets_new_children(metrics: Metrics) -> None:
    failures: list[BaseException] = []

    def render() -> None:
        try:
            for _ in range(20):
                metrics.render()
        except RuntimeError as error:
            failures.append(error)

    thread = threading.Thread(target=render)
    thread.start()
    n = 0
    while thread.is_alive():
        metrics.rate_limited.child(f"t{n}", "rpm").inc()
        if n % 50 == 0:
            metrics.rate_limited.forget("tenant", lambda tenant: tenant == "t0")
        n += 1
    thread.join()
    assert failures == []


def test_a_family_refuses_wrong_labels(metrics: Metrics) -> None:
    with pytest.raises(ValueError, match="tenant"):
        metrics.rate_limited.child("acme")


def test_the_updates_of_a_request_are_cheap(metrics: Metrics) -> None:
    route = route_of(metrics)
    best_us = 1e9
    for _ in range(5):
        started = time.thread_time()
        for _ in range(1_000):
            metrics.in_flight.inc()
            route.attempt("ok")
            route.settled("search", "provider", input_tokens=9, output_tokens=9, cost_nanousd=9)
            route.ended("ok", "ok", duration_s=0.8, overhead_s=3e-4, ttft_s=0.3, output_tokens=9)
            metrics.in_flight.dec()
        best_us = min(best_us, (time.thread_time() - started) * 1e3)
    assert best_us < 16  # 2 µs where nothing else runs
