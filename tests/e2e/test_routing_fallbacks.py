"""Other groups that answer instead: only for the reasons that the operator named."""

from __future__ import annotations

from typing import Any

import pytest

from tests.e2e import routes
from tests.e2e.rig import Gateway
from tests.e2e.routes import (
    ANSWER_USD,
    NEVER_OPEN,
    Providers,
    breaker,
    cooldown_s,
    gauge,
    pool,
    routing,
    said,
    tried,
    whole,
)
from tests.fakes.answers import error_answer, json_answer
from tests.fakes.upstream import Step, hang, send

pytestmark = pytest.mark.asyncio(loop_scope="module")

upstream = routes.upstream
SMALL, LARGE = "gpt-4", "gpt-4o-2024-11-20"
"""Models whose windows the price table knows: 8192 and 128000 tokens."""
TOO_LONG = send(error_answer("400 Bad Request", "context_length_exceeded", "Too long."))
FILTERED = send(error_answer("400 Bad Request", "content_filter", "Filtered."))
AZURE_FILTERED = send(
    json_answer(
        {
            "error": {
                "message": "Filtered.",
                "code": "invalid_prompt",
                "innererror": {"code": "ResponsibleAIPolicyViolation"},
            }
        },
        status="400 Bad Request",
    )
)
REASONS: dict[str, Step] = {
    "error": send(error_answer("500 Internal Server Error")),
    "rate_limit": send(error_answer("429 Too Many Requests")),
    "timeout": hang(),
}


@pytest.fixture(scope="module")
def changes(upstream: Providers) -> dict[str, Any]:
    long = {"fallback_on": ["context_length"], "breaker": NEVER_OPEN}
    groups: dict[str, Any] = {
        "long": pool("a", "a", models=[SMALL, "long-2"], fallbacks=["larger"], **long),
        "long-no-larger": pool("a", models=[LARGE], fallbacks=["smaller"], **long),
        "long-unnamed": pool("a", fallbacks=["larger"]),
        "smaller": pool("b", models=[SMALL]),
        "larger": pool("b", models=[LARGE]),
        "filter": pool("a", "b", fallbacks=["other"], fallback_on=["error", "content_filter"]),
        "filter-unnamed": pool("a", "b", fallbacks=["other"]),
        "other": pool("c", breaker=NEVER_OPEN),
        "first": pool("b"),
        "second": pool("c"),
        "chain": pool("a", fallbacks=["first", "second"]),
    }
    for reason in REASONS:
        once = {"attempts": 2, "backoff_s": 0.02}
        for kind in ("buffered", "stream"):
            groups[f"on-{reason}-{kind}"] = pool("a", fallbacks=["other"], fallback_on=[reason], retry=once)
        others = [name for name in REASONS if name != reason]
        groups[f"not-on-{reason}"] = pool(
            "a", fallbacks=["other"], fallback_on=others, retry={"attempts": 1}
        )
    return routing(upstream, groups)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("reason", REASONS)
async def test_a_named_reason_leads_to_the_fallback(
    gateway: Gateway, upstream: Providers, reason: str, stream: bool
) -> None:
    group = f"on-{reason}-{'stream' if stream else 'buffered'}"

    async def passed_on() -> float:
        labels = {"model": group, "to": "other", "reason": reason}
        return await gauge(gateway, "gateway_fallbacks_total", **labels)

    before = await passed_on()
    upstream.once(f"{group}-1", REASONS[reason])
    upstream.once("other-1", *whole(stream))
    got = await gateway.chat(model=group, stream=stream)
    assert said(got) == "fine"
    assert got.header("x-gateway-model") == "other"
    assert [deployment for deployment, _ in await tried(gateway, got)] == [f"{group}-1", "other-1"]
    row = await gateway.row(got.header("x-request-id") or "")
    assert (row["model"], row["deployment"]) == (group, "other-1")
    assert row["charged_usd"] == ANSWER_USD
    assert await passed_on() == before + 1


@pytest.mark.parametrize("reason", REASONS)
async def test_another_reason_does_not(gateway: Gateway, upstream: Providers, reason: str) -> None:
    upstream.once(f"not-on-{reason}-1", REASONS[reason])
    got = await gateway.chat(model=f"not-on-{reason}", stream=True)
    assert got.status in (429, 502, 504)
    assert [deployment for deployment, _ in await tried(gateway, got)] == [f"not-on-{reason}-1"]


async def test_fallbacks_are_tried_in_their_order(gateway: Gateway, upstream: Providers) -> None:
    for model in ("chain-1", "first-1"):
        upstream.once(model, send(error_answer("500 Internal Server Error")))
    upstream.once("second-1", *whole(False))
    got = await gateway.chat(model="chain")
    assert said(got) == "fine"
    assert [deployment for deployment, _ in await tried(gateway, got)] == ["chain-1", "first-1", "second-1"]


async def test_a_request_too_long_goes_to_a_larger_window(gateway: Gateway, upstream: Providers) -> None:
    upstream.once(SMALL, TOO_LONG)
    upstream.once(LARGE, *whole(False))
    got = await gateway.chat(model="long")
    assert said(got) == "fine"
    outcomes = [("long-1", "context_length_exceeded"), ("larger-1", "ok")]
    assert await tried(gateway, got) == outcomes  # not to the group's own second deployment
    assert await breaker(gateway, "long-1") == await cooldown_s(gateway, "long-1") == 0


@pytest.mark.parametrize(
    ("group", "model"), [("long-no-larger", LARGE), ("long-unnamed", "long-unnamed-1")]
)
async def test_a_request_too_long_is_told_where_nothing_larger_is_named(
    gateway: Gateway, upstream: Providers, group: str, model: str
) -> None:
    upstream.once(model, TOO_LONG)
    got = await gateway.chat(model=group)
    assert (got.status, got.code) == (400, "context_length_exceeded")
    assert got.header("x-should-retry") == "false"
    assert await tried(gateway, got) == [(f"{group}-1", "context_length_exceeded")]
    assert await breaker(gateway, f"{group}-1") == 0


@pytest.mark.parametrize("step", [FILTERED, AZURE_FILTERED], ids=["code", "innererror"])
async def test_what_is_filtered_goes_nowhere_else_unless_named(
    gateway: Gateway, upstream: Providers, step: Step
) -> None:
    upstream.once("filter-unnamed-1", step)
    got = await gateway.chat(model="filter-unnamed")
    assert (got.status, got.code) == (400, "content_filter")
    assert await tried(gateway, got) == [("filter-unnamed-1", "content_filter")]
    upstream.once("filter-1", step)
    upstream.once("other-1", *whole(False))
    got = await gateway.chat(model="filter")
    assert said(got) == "fine"
    assert await tried(gateway, got) == [("filter-1", "content_filter"), ("other-1", "ok")]
