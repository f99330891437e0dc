"""Which failures are tried again, where, and how often: never more calls than attempts."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.e2e import routes
from tests.e2e.rig import Gateway
from tests.e2e.routes import (
    ANSWER_USD,
    KEYS,
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
from tests.fakes.answers import answer, error_answer, json_answer
from tests.fakes.upstream import hang, send, wait

pytestmark = pytest.mark.asyncio(loop_scope="module")

upstream = routes.upstream
MANY = {"budget": 1.0, "backoff_s": 0.01, "backoff_max_s": 0.02}
ATTEMPTS = [1, 2, 3, 6]
FAILED_ONCE = {
    "500 Internal Server Error": "upstream_error",
    "502 Bad Gateway": "upstream_error",
    "503 Service Unavailable": "overloaded",
    "504 Gateway Timeout": "upstream_timeout",
    "408 Request Timeout": "upstream_timeout",
    "529 Overloaded": "overloaded",
}
NO_ANSWERS = {
    "nothing": answer(b""),
    "null": answer(b"null"),
    "array": answer(b"[]"),
    "truncated": answer(b'{"choices":[{"index":0,"mess'),
    "welcome page": answer(b"<h1>Welcome</h1>", media="text/html"),
}
HARD = {
    "400 Bad Request": (400, "invalid_request"),
    "413 Payload Too Large": (413, "body_too_large"),
    "422 Unprocessable Entity": (400, "invalid_request"),
}


@pytest.fixture(scope="module")
def changes(upstream: Providers) -> dict[str, Any]:
    retried = {"attempts": 3, **MANY}
    groups = {
        "alone": pool("a", breaker=NEVER_OPEN, retry=retried),
        "spare": pool("a", "b", breaker=NEVER_OPEN, retry=retried),
        "refused-alone": pool("refusing-alone"),
        "refused-spare": pool("refusing", "b"),
        "elsewhere": pool("b"),
        "late-alone": pool("a", breaker=NEVER_OPEN, timeouts={"connect_s": 1, "first_event_s": 0.6}),
        "late": pool(
            "a", "b", breaker=NEVER_OPEN, timeouts={"connect_s": 1, "first_event_s": 0.6, "total_s": 5}
        ),
    }
    for attempts in ATTEMPTS:
        for kind in ("buffered", "stream"):
            groups[f"{kind}-{attempts}"] = pool(
                "a",
                "b",
                fallbacks=["then", "last"],
                breaker=NEVER_OPEN,
                retry={"attempts": attempts, **MANY},
            )
    groups["then"] = pool("b", "c", breaker=NEVER_OPEN, retry={"attempts": 9})
    groups["last"] = pool("c", breaker=NEVER_OPEN)
    groups["overloaded"] = pool("a")
    refusing = dict.fromkeys(("refusing", "refusing-alone"), f"{upstream.url}/v1")
    return routing(upstream, groups, **refusing)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("status", FAILED_ONCE)
async def test_a_failure_that_passes_is_not_seen(
    gateway: Gateway, upstream: Providers, status: str, stream: bool
) -> None:
    upstream.once("alone-1", send(error_answer(status)))
    upstream.once("alone-1", *whole(stream))
    got = await gateway.chat(model="alone", stream=stream)
    assert said(got) == "fine"
    assert await tried(gateway, got) == [("alone-1", FAILED_ONCE[status]), ("alone-1", "ok")]
    row = await gateway.row(got.header("x-request-id") or "")
    assert row["cost_usd"] == row["charged_usd"] == ANSWER_USD
    assert (await gateway.line(row["request_id"]))["attempts"] == 2


@pytest.mark.parametrize("name", NO_ANSWERS)
async def test_a_200_that_is_no_answer_is_tried_again(
    gateway: Gateway, upstream: Providers, name: str
) -> None:
    upstream.once("alone-1", send(NO_ANSWERS[name]))
    upstream.once("alone-1", *whole(False))
    got = await gateway.chat(model="alone")
    assert said(got) == "fine"
    assert await tried(gateway, got) == [("alone-1", "upstream_invalid_response"), ("alone-1", "ok")]


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("kind", "code"), [("server_error", "upstream_error"), ("overloaded_error", "overloaded")]
)
async def test_an_error_object_in_a_200_is_an_error(
    gateway: Gateway, upstream: Providers, kind: str, code: str, stream: bool
) -> None:
    upstream.once("spare-1", send(json_answer({"error": {"message": "boom", "type": kind}})))
    upstream.once("spare-2", *whole(stream))
    got = await gateway.chat(model="spare", stream=stream)
    assert said(got) == "fine"
    assert await tried(gateway, got) == [("spare-1", code), ("spare-2", "ok")]


async def test_an_html_page_is_passed_over_and_never_shown(gateway: Gateway, upstream: Providers) -> None:
    page = answer(b"<h1>Bad gateway</h1>", status="502 Bad Gateway", media="text/html")
    upstream.once("spare-1", send(page))
    upstream.once("spare-2", *whole(False))
    assert said(await gateway.chat(model="spare")) == "fine"
    upstream.always("spare-1", send(page))
    upstream.always("spare-2", send(page))
    got = await gateway.chat(model="spare")
    assert (got.status, got.code) == (502, "upstream_error")
    assert b"<h1>" not in got.body
    assert got.header("x-should-retry") == "false"  # three calls were made for it already


async def test_overloaded_says_so_in_the_providers_word(gateway: Gateway, upstream: Providers) -> None:
    upstream.always("overloaded-1", send(error_answer("529 Overloaded", kind="overloaded_error")))
    got = await gateway.chat(model="overloaded")
    assert (got.status, got.code) == (503, "overloaded")
    assert "overloaded_error" in got.json()["error"]["message"]
    assert int(got.header("retry-after") or 0) >= 1
    assert len(await tried(gateway, got)) == 3


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("status", HARD)
async def test_the_requests_own_fault_is_told_at_once(
    gateway: Gateway, upstream: Providers, status: str, stream: bool
) -> None:
    upstream.once("spare-1", send(error_answer(status, "invalid_value")))
    got = await gateway.chat(model="spare", stream=stream)
    assert (got.status, got.code) == HARD[status]
    assert got.header("x-should-retry") == "false"
    assert await tried(gateway, got) == [("spare-1", HARD[status][1])]
    assert await breaker(gateway, "spare-1") == await cooldown_s(gateway, "spare-1") == 0


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("attempts", ATTEMPTS)
async def test_calls_are_at_most_attempts_over_all_groups(
    gateway: Gateway, upstream: Providers, attempts: int, stream: bool
) -> None:
    group = f"{'stream' if stream else 'buffered'}-{attempts}"
    every = [f"{group}-1", f"{group}-2", "then-1", "then-2", "last-1"]
    for model in every:
        upstream.always(model, send(error_answer("500 Internal Server Error")))
    before = upstream.calls(*every)
    got = await gateway.chat(model=group, stream=stream)
    assert (got.status, got.code) == (502, "upstream_error")
    assert upstream.calls(*every) - before == attempts
    called = [deployment for deployment, _ in await tried(gateway, got)]
    assert called[:5] == every[:attempts]  # each once before any is tried again


@pytest.mark.parametrize("status", ["401 Unauthorized", "403 Forbidden"])
async def test_a_refused_credential_is_ours_to_mend_and_is_left_alone(
    gateway: Gateway, upstream: Providers, status: str
) -> None:
    secret = f"Incorrect API key provided: {KEYS['a']}"
    upstream.once("refused-alone-1", send(error_answer(status, "invalid_api_key", secret)))
    got = await gateway.chat(model="refused-alone")
    assert (got.status, got.code) == (502, "upstream_auth_error")
    assert b"Incorrect" not in got.body and KEYS["a"].encode() not in got.body
    assert len(await tried(gateway, got)) == 1
    assert KEYS["a"] not in gateway.stderr.read_text()


async def test_a_refused_credential_is_passed_over_and_cooled(
    gateway: Gateway, upstream: Providers
) -> None:
    upstream.once("refused-spare-1", send(error_answer("401 Unauthorized")))
    upstream.always("refused-spare-2", *whole(False))
    got = await gateway.chat(model="refused-spare")
    assert said(got) == "fine"
    assert await tried(gateway, got) == [
        ("refused-spare-1", "upstream_auth_error"),
        ("refused-spare-2", "ok"),
    ]
    assert 50 < await cooldown_s(gateway, "refused-spare-1") <= 60
    assert await tried(gateway, await gateway.chat(model="refused-spare")) == [("refused-spare-2", "ok")]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_an_error_and_not_followed(
    gateway: Gateway, upstream: Providers, status: int
) -> None:
    before = len(upstream.seen)
    location = f"location: {upstream.url}/v1/elsewhere"
    upstream.once("spare-1", send(answer(b"", location, status=f"{status} Elsewhere")))
    upstream.once("spare-2", *whole(False))
    got = await gateway.chat(model="spare")
    assert said(got) == "fine"
    assert [seen.path for seen in upstream.seen[before:]] == ["/v1/chat/completions"] * 2
    assert [seen.header("authorization") for seen in upstream.seen[before:]] == [
        f"Bearer {KEYS['a']}",
        f"Bearer {KEYS['b']}",
    ]


async def test_no_second_attempt_that_cannot_finish_in_time(gateway: Gateway, upstream: Providers) -> None:
    """Both are known to take 0.4 s; the first attempt leaves 0.3 s, or 1.4 s."""
    for first in (wait(0.4), *whole(False)), (send(error_answer("500 Internal Server Error")),):
        upstream.always("late-1", *first)
        upstream.always("late-2", wait(0.4), *whole(False))
        await asyncio.gather(*(gateway.chat(model="late") for _ in range(20)))
    upstream.always("late-1", hang())
    before = upstream.calls("late-2")
    got = await gateway.chat(model="late", stream=True, headers={"x-request-timeout-ms": "900"})
    assert (got.status, got.code) == (504, "upstream_timeout")
    assert await tried(gateway, got) == [("late-1", "upstream_timeout")]
    assert upstream.calls("late-2") == before
    upstream.always("late-2", *whole(True))
    got = await gateway.chat(model="late", stream=True, headers={"x-request-timeout-ms": "2000"})
    assert said(got) == "fine"


async def test_what_came_too_late_is_not_asked_again_in_less_time(
    gateway: Gateway, upstream: Providers
) -> None:
    """It had 0.6 s, and would have 0.3 s; with time enough it is asked again."""
    upstream.once("late-alone-1", hang())
    got = await gateway.chat(model="late-alone", stream=True, headers={"x-request-timeout-ms": "900"})
    assert (got.status, got.code) == (504, "upstream_timeout")
    assert await tried(gateway, got) == [("late-alone-1", "upstream_timeout")]
    upstream.once("late-alone-1", hang())
    upstream.once("late-alone-1", *whole(True))
    got = await gateway.chat(model="late-alone", stream=True, headers={"x-request-timeout-ms": "5000"})
    assert said(got) == "fine"


async def test_the_deadline_ends_a_second_attempt_too(gateway: Gateway, upstream: Providers) -> None:
    upstream.once("spare-1", send(error_answer("500 Internal Server Error")))
    upstream.once("spare-2", hang())
    got = await gateway.chat(model="spare", headers={"x-request-timeout-ms": "300"})
    assert (got.status, got.code) == (504, "deadline_exceeded")
    assert await tried(gateway, got) == [("spare-1", "upstream_error"), ("spare-2", "left")]
    await upstream.last.left(1.0)


async def test_every_call_is_counted_by_deployment_and_outcome(
    gateway: Gateway, upstream: Providers
) -> None:
    async def counted(deployment: str, outcome: str) -> float:
        name = "gateway_upstream_attempts_total"
        return await gauge(gateway, name, deployment=deployment, outcome=outcome)

    wanted = [("spare-1", "overloaded"), ("spare-2", "ok")]
    before = [await counted(*one) for one in wanted]
    upstream.once("spare-1", send(error_answer("503 Service Unavailable")))
    upstream.once("spare-2", *whole(False))
    got = await gateway.chat(model="spare")
    assert await tried(gateway, got) == wanted
    assert [await counted(*one) for one in wanted] == [count + 1 for count in before]
