"""Providers that ask to be left alone: they are, for as long as they say, and others answer meanwhile."""

from __future__ import annotations

import asyncio
import time
from email.utils import formatdate
from typing import Any

import pytest

from tests.e2e import routes
from tests.e2e.refusals import assert_refused
from tests.e2e.rig import Gateway
from tests.e2e.routes import Providers, breaker, cooldown_s, pool, routing, said, tried, whole
from tests.fakes.answers import json_answer
from tests.fakes.upstream import Step, send

pytestmark = pytest.mark.asyncio(loop_scope="module")

upstream = routes.upstream
HINT_S = 34.0
DEFAULT_S = 10.0
UNUSABLE_S = 60.0
LONGEST_S = 300.0


def limited(*headers: str, status: str = "429 Too Many Requests", **error: Any) -> Step:
    return send(json_answer({"error": {"message": "Slow down.", **error}}, *headers, status=status))


RETRY_INFO = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34s"}
HINTS: dict[str, tuple[Step, float]] = {
    "seconds": (limited("retry-after: 34"), HINT_S),
    "date": (limited(f"retry-after: {formatdate(time.time() + 7200, usegmt=True)}"), LONGEST_S),
    "ms": (limited("retry-after-ms: 34000"), HINT_S),
    "azure": (limited("x-ms-retry-after-ms: 34000"), HINT_S),
    "google": (limited(status="429 Too Many Requests", details=[RETRY_INFO]), HINT_S),
    "text": (limited(message="Usage limit; it will reset after 2m 13s."), 133.0),
    "ms-first": (limited("retry-after: 90", "retry-after-ms: 34000"), HINT_S),
    "an-hour": (limited("retry-after: 3600"), LONGEST_S),
    "none": (limited(), DEFAULT_S),
    "negative": (limited("retry-after: -5"), DEFAULT_S),
    "nan": (limited("retry-after: nan"), DEFAULT_S),
    "infinite": (limited("retry-after: 1e309"), DEFAULT_S),
    "words": (limited("retry-after: soon", message="Please try again later."), DEFAULT_S),
    "past": (limited("retry-after: Wed, 21 Oct 2015 07:28:00 GMT"), DEFAULT_S),
}
UNPAID: dict[str, Step] = {
    "openai": limited(code="insufficient_quota", type="insufficient_quota"),
    "usage-limit": limited(type="usage_limit_reached"),
    "billing": limited(status="402 Payment Required", type="billing_error"),
    "credit": limited(
        status="400 Bad Request",
        type="invalid_request_error",
        message="Your credit balance is too low to access the API.",
    ),
}
REFUSED: dict[str, Step] = {
    "unauthorized": limited(status="401 Unauthorized", code="invalid_api_key"),
    "forbidden": limited(status="403 Forbidden", message="This key was revoked."),
    "quota": limited(code="insufficient_quota", type="insufficient_quota"),
}
FORBIDDEN: dict[str, Step] = {
    "not-the-model": limited(status="403 Forbidden", message="No access to model `large`.", code="x"),
    "not-here": limited(status="403 Forbidden", code="unsupported_country_region_territory"),
}
MODERATED: dict[str, Step] = {
    "flagged": limited(status="403 Forbidden", message="The model requires moderation: input was flagged."),
    "code": limited(status="403 Forbidden", code="content_policy_violation"),
    "guidelines": limited(status="403 Forbidden", message="Content violates usage guidelines."),
}


@pytest.fixture(scope="module")
def changes(upstream: Providers) -> dict[str, Any]:
    groups = {name: pool("a", "b") for name in HINTS}
    groups |= {f"unpaid-{name}": pool(f"unpaid-{name}", f"unpaid-{name}", "b") for name in UNPAID}
    groups |= {f"unpaid-alone-{name}": pool(f"unpaid-alone-{name}") for name in UNPAID}
    for name in (*REFUSED, *FORBIDDEN):
        groups |= {f"{name}-one": pool(name, "b"), f"{name}-other": pool(name, "b")}
        groups |= {f"{name}-alone": pool(name), f"{name}-twice": pool(name, name)}
        groups |= {f"{name}-then": pool(name, fallbacks=["spare"])}
    groups |= {
        "brief": pool("a", "b"),
        "same-model": pool("a", "b", models=["brief-1", "same-model-2"]),
        "other-model": pool("a"),
        "waited-for": pool("a"),
        "hour-alone": pool("a"),
        "all": pool("a", "b", fallbacks=["all-then"]),
        "all-then": pool("c"),
        "busy": pool("a", "b", retry={"attempts": 1}),
        "spare": pool("c"),
        "two": pool("a", models=["of-two-groups"], fallbacks=["spare"]),
        "hedged": pool("a", models=["of-two-groups"], retry={"attempts": 1}),
    }
    unpaid = [*(f"unpaid-{name}" for name in UNPAID), *(f"unpaid-alone-{name}" for name in UNPAID)]
    own = dict.fromkeys((*unpaid, *REFUSED, *FORBIDDEN), f"{upstream.url}/v1")
    return routing(upstream, groups, **own)


@pytest.mark.parametrize("name", HINTS)
async def test_every_spelling_of_the_hint_is_understood(
    gateway: Gateway, upstream: Providers, name: str
) -> None:
    step, expected_s = HINTS[name]
    upstream.once(f"{name}-1", step)
    upstream.once(f"{name}-2", *whole(False))
    began_s = time.monotonic()
    got = await gateway.chat(model=name)
    assert said(got) == "fine"
    assert time.monotonic() - began_s < 2.0  # at once, whatever the first one asked for
    assert await tried(gateway, got) == [(f"{name}-1", "upstream_rate_limited"), (f"{name}-2", "ok")]
    assert expected_s - 3.0 < await cooldown_s(gateway, f"{name}-1") <= expected_s
    assert await breaker(gateway, f"{name}-1") == 0


async def test_a_cooled_deployment_is_left_alone_for_that_time_and_then_called_again(
    gateway: Gateway, upstream: Providers
) -> None:
    upstream.once("brief-1", limited("retry-after: 2"))
    upstream.always("brief-2", *whole(False))
    upstream.always("same-model-2", *whole(False))
    upstream.always("other-model-1", *whole(False))
    await gateway.chat(model="brief")
    limited_s = time.monotonic()
    assert await tried(gateway, await gateway.chat(model="brief")) == [("brief-2", "ok")]
    assert await tried(gateway, await gateway.chat(model="same-model")) == [("same-model-2", "ok")]
    assert await tried(gateway, await gateway.chat(model="other-model")) == [("other-model-1", "ok")]
    await asyncio.sleep(limited_s + 2.05 - time.monotonic())
    upstream.once("brief-1", *whole(False))
    assert await tried(gateway, await gateway.chat(model="brief")) == [("brief-1", "ok")]
    assert await cooldown_s(gateway, "brief-1") == 0


async def test_who_is_alone_is_waited_for(gateway: Gateway, upstream: Providers) -> None:
    upstream.once("waited-for-1", limited("retry-after: 1"))
    upstream.once("waited-for-1", *whole(False))
    began_s = time.monotonic()
    got = await gateway.chat(model="waited-for")
    assert said(got) == "fine"
    assert time.monotonic() - began_s >= 1.0
    assert len(await tried(gateway, got)) == 2


async def test_an_hour_is_not_waited_for(gateway: Gateway, upstream: Providers) -> None:
    upstream.once("hour-alone-1", limited("retry-after: 3600"))
    began_s = time.monotonic()
    got = await gateway.chat(model="hour-alone")
    assert_refused(got, 429, "upstream_rate_limited")
    assert time.monotonic() - began_s < 2.0
    assert got.header("retry-after") == "3600"
    assert len(await tried(gateway, got)) == 1


async def test_who_has_nobody_else_is_kept_by_a_hint_alone_and_for_a_minute_at_most(
    gateway: Gateway, upstream: Providers
) -> None:
    """Two groups, one credential and model: what one of them learns is each one's by its own situation."""
    upstream.always("spare-1", *whole(False))
    upstream.once("of-two-groups", limited())
    assert said(await gateway.chat(model="two")) == "fine"
    upstream.always("of-two-groups", *whole(False))
    assert await tried(gateway, await gateway.chat(model="two")) == [("spare-1", "ok")]
    assert await tried(gateway, await gateway.chat(model="hedged")) == [("hedged-1", "ok")]
    upstream.once("of-two-groups", limited("retry-after: 250"))
    assert_refused(await gateway.chat(model="hedged"), 429, "upstream_rate_limited")
    got = await gateway.chat(model="hedged")
    assert_refused(got, 503, "no_deployment_available")
    assert 50 <= int(got.header("retry-after") or 0) <= 60


@pytest.mark.parametrize("name", UNPAID)
async def test_who_is_not_paid_is_not_asked_again_with_that_credential(
    gateway: Gateway, upstream: Providers, name: str
) -> None:
    group = f"unpaid-{name}"
    upstream.once(f"{group}-1", UNPAID[name])
    upstream.once(f"{group}-3", *whole(True))
    got = await gateway.chat(model=group, stream=True)
    assert said(got) == "fine"
    assert await tried(gateway, got) == [(f"{group}-1", "upstream_rate_limited"), (f"{group}-3", "ok")]
    assert UNUSABLE_S - 5 < await cooldown_s(gateway, f"{group}-1") <= UNUSABLE_S


@pytest.mark.parametrize("name", UNPAID)
async def test_who_is_not_paid_and_alone_is_asked_once(
    gateway: Gateway, upstream: Providers, name: str
) -> None:
    group = f"unpaid-alone-{name}"
    upstream.once(f"{group}-1", UNPAID[name])
    got = await gateway.chat(model=group)
    assert_refused(got, 429, "upstream_rate_limited")
    assert got.header("x-should-retry") == "false"
    assert await tried(gateway, got) == [(f"{group}-1", "upstream_rate_limited")]


@pytest.mark.parametrize("stream", [True, False])
async def test_when_all_are_cooling_the_answer_is_one_503_at_once(
    gateway: Gateway, upstream: Providers, stream: bool
) -> None:
    if await cooldown_s(gateway, "all-1") == 0:
        upstream.once("all-1", limited("retry-after: 50"))
        upstream.once("all-2", limited("retry-after: 30"))
        upstream.once("all-then-1", limited("retry-after: 40"))
        first = await gateway.chat(model="all")
        assert_refused(first, 429, "upstream_rate_limited")
        assert len(await tried(gateway, first)) == 3
    before = len(upstream.seen)
    began_s = time.monotonic()
    got = await gateway.chat(model="all", stream=stream)
    assert_refused(got, 503, "no_deployment_available")
    assert time.monotonic() - began_s < 1.0
    assert 20 <= int(got.header("retry-after") or 0) <= 30  # the soonest of them
    assert len(upstream.seen) == before
    assert await tried(gateway, got) == []


async def test_one_attempt_means_that_a_limit_is_told_and_the_next_request_goes_elsewhere(
    gateway: Gateway, upstream: Providers
) -> None:
    upstream.once("busy-1", limited("retry-after: 20"))
    got = await gateway.chat(model="busy")
    assert_refused(got, 429, "upstream_rate_limited")
    upstream.once("busy-2", *whole(False))
    assert await tried(gateway, await gateway.chat(model="busy")) == [("busy-2", "ok")]


@pytest.mark.parametrize("name", REFUSED)
async def test_a_refused_credential_is_refused_for_all_its_models(
    gateway: Gateway, upstream: Providers, name: str
) -> None:
    """Others of its provider are not called either, unless nobody else could answer."""
    upstream.once(f"{name}-one-1", REFUSED[name])
    for group in ("one-2", "other-2", "alone-1", "twice-1"):
        upstream.always(f"{name}-{group}", *whole(False))
    upstream.always("spare-1", *whole(False))
    outcome = "upstream_rate_limited" if name == "quota" else "upstream_auth_error"
    first = await gateway.chat(model=f"{name}-one")
    assert await tried(gateway, first) == [(f"{name}-one-1", outcome), (f"{name}-one-2", "ok")]
    for group, answers in (
        ("one", f"{name}-one-2"),
        ("other", f"{name}-other-2"),
        ("then", "spare-1"),
        ("alone", f"{name}-alone-1"),
        ("twice", f"{name}-twice-1"),
    ):
        got = await gateway.chat(model=f"{name}-{group}")
        assert await tried(gateway, got) == [(answers, "ok")]
    assert UNUSABLE_S - 5 < await cooldown_s(gateway, f"{name}-other-1") <= UNUSABLE_S


@pytest.mark.parametrize("name", FORBIDDEN)
async def test_a_model_that_is_not_allowed_says_nothing_about_others(
    gateway: Gateway, upstream: Providers, name: str
) -> None:
    upstream.once(f"{name}-one-1", FORBIDDEN[name])
    upstream.always(f"{name}-one-2", *whole(False))
    upstream.always(f"{name}-other-1", *whole(False))
    first = await gateway.chat(model=f"{name}-one")
    assert await tried(gateway, first) == [
        (f"{name}-one-1", "upstream_auth_error"),
        (f"{name}-one-2", "ok"),
    ]
    assert await cooldown_s(gateway, f"{name}-one-1") > UNUSABLE_S - 5
    assert await tried(gateway, await gateway.chat(model=f"{name}-other")) == [(f"{name}-other-1", "ok")]


@pytest.mark.parametrize("name", MODERATED)
async def test_a_prompt_that_is_not_allowed_is_the_requests_own_matter(
    gateway: Gateway, upstream: Providers, name: str
) -> None:
    upstream.once("other-model-1", MODERATED[name])
    got = await gateway.chat(model="other-model")
    assert_refused(got, 400, "content_filter")
    assert await tried(gateway, got) == [("other-model-1", "content_filter")]
    assert await cooldown_s(gateway, "other-model-1") == 0
    upstream.once("other-model-1", *whole(False))
    assert said(await gateway.chat(model="other-model")) == "fine"
