"""Whom to call next: the policy alone, on a clock of the test's own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import (
    Sent,
    Unavailable,
    UpstreamAuthError,
    UpstreamError,
    UpstreamRefused,
    UpstreamRejected,
    UpstreamTimeout,
)
from gateway.routing.deployment import Group
from gateway.routing.plan import Plan, Step
from gateway.routing.retry import RetryBudget, RetryPolicy
from tests.unit.routing_rig import REQUEST, Site

NEVER = UpstreamError("x", sent=Sent.NEVER)
BROKEN = UpstreamError("x", upstream_status=500)
LATE = UpstreamTimeout("x")
LIMITED = UpstreamRefused("x", status=429, code="upstream_rate_limited", blames_deployment=False)
QUOTA = UpstreamRefused(
    "x",
    status=429,
    code="upstream_rate_limited",
    sent=Sent.HARD,
    retryable=False,
    refuses_credential=True,
)
AUTH = UpstreamAuthError("x")
INVALID = UpstreamRejected("x")
CONTEXT = UpstreamRejected("x", code="context_length_exceeded")
FILTERED = UpstreamRejected("x", code="content_filter")
ERRORS = [NEVER, BROKEN, LATE, LIMITED, QUOTA, AUTH, INVALID, CONTEXT, FILTERED]


def walk(group: Group, *errors: UpstreamError, deadline_s: float = 600.0) -> list[Step | None]:
    plan = Plan(group, REQUEST, deadline_s, random=lambda: 0.5)
    steps: list[Step | None] = [plan.first(0.0)]
    for error in errors:
        steps.append(plan.after(error, 0.0))
    return steps


def ids(steps: list[Step | None]) -> list[str | None]:
    return [step.deployment.id if step else None for step in steps]


def test_untried_deployments_then_fallbacks_then_again() -> None:
    site = Site()
    spare = site.group(site.deployment("c"), name="spare")
    group = site.group(
        site.deployment("a"), site.deployment("b"), retry=RetryPolicy(attempts=5), fallbacks=[spare]
    )
    steps = walk(group, NEVER, NEVER, NEVER, NEVER)
    assert ids(steps) == ["a", "b", "c", "c", "c"]
    waits = [step.wait_s for step in steps if step]
    assert waits[:3] == [0, 0, 0] and min(waits[3:]) > 0


@pytest.mark.parametrize("attempts", [1, 2, 3])
def test_attempts_are_a_bound_over_everything(attempts: int) -> None:
    site = Site()
    spare = site.group(*[site.deployment(f"s{n}") for n in range(5)], name="spare")
    group = site.group(
        site.deployment("a"), site.deployment("b"), retry=RetryPolicy(attempts=attempts), fallbacks=[spare]
    )
    steps = walk(group, *[NEVER] * 8)
    assert len([step for step in steps if step]) == attempts


def test_the_requests_own_fault_ends_it() -> None:
    site = Site()
    group = site.group(
        site.deployment("a"), site.deployment("b"), fallbacks=[site.group(site.deployment("c"))]
    )
    assert ids(walk(group, INVALID)) == ["a", None]


@pytest.mark.parametrize(("error", "reason"), [(CONTEXT, "context_length"), (FILTERED, "content_filter")])
def test_context_and_filter_fall_back_only_when_named(error: UpstreamError, reason: str) -> None:
    site = Site()
    spare = site.group(site.deployment("c"), name="spare")
    group = site.group(site.deployment("a"), site.deployment("b"), fallbacks=[spare])
    assert ids(walk(group, error)) == ["a", None]
    named = site.group(
        site.deployment("a"), site.deployment("b"), fallbacks=[spare], fallback_on=["error", reason]
    )
    assert ids(walk(named, error)) == ["a", "c"]


@pytest.mark.parametrize(("window", "taken"), [(50, None), (100, None), (200, "c"), (None, "c")])
def test_context_goes_to_a_larger_window(window: int | None, taken: str | None) -> None:
    site = Site()
    spare = site.group(site.deployment("c"), name="spare", context_window=window)
    group = site.group(
        site.deployment("a"), fallbacks=[spare], fallback_on=["context_length"], context_window=100
    )
    assert ids(walk(group, CONTEXT)) == ["a", taken]


@pytest.mark.parametrize("error", [QUOTA, AUTH])
def test_a_refused_credential_is_not_used_again(error: UpstreamError) -> None:
    site = Site()
    group = site.group(
        site.deployment("a", "one"),
        site.deployment("b", "one"),
        site.deployment("c", "two"),
        retry=RetryPolicy(attempts=9),
    )
    assert ids(walk(group, error, error)) == ["a", "c", None]


def test_hard_errors_are_not_repeated() -> None:
    site = Site()
    missing = UpstreamError("x", sent=Sent.HARD, retryable=False, upstream_status=404)
    assert ids(walk(site.group(site.deployment("a")), missing)) == ["a", None]


def test_fallback_only_for_named_reasons() -> None:
    site = Site()
    spare = site.group(site.deployment("c"), name="spare")
    group = site.group(site.deployment("a"), fallbacks=[spare], fallback_on=["timeout"])
    assert ids(walk(group, LATE)) == ["a", "c"]
    assert ids(walk(group, NEVER)) == ["a", "a"]


def test_what_is_cooling_is_skipped_and_a_hint_is_waited_for() -> None:
    site = Site()
    first, second = site.deployment("a"), site.deployment("b")
    first.health.cooldown.extend(0, 30)
    assert ids(walk(site.group(first, second))) == ["b"]
    hinted = UpstreamRefused("x", code="upstream_rate_limited", status=429, hint_s=2.0)
    (_, again) = walk(site.group(site.deployment("c")), hinted)
    assert again is not None and again.wait_s == 2.0
    assert walk(site.group(site.deployment("c")), hinted, deadline_s=1.5)[1] is None


def test_nobody_left_says_when() -> None:
    site = Site()
    first, second = site.deployment("a"), site.deployment("b")
    first.health.cooldown.extend(0, 30, 30)
    second.health.cooldown.extend(0, 12.2, 12.2)
    with pytest.raises(Unavailable) as caught:
        walk(site.group(first, second))
    assert caught.value.code == "no_deployment_available"
    assert caught.value.retry_after_s == 13


def test_a_group_that_cannot_be_called_falls_back_at_once() -> None:
    site = Site()
    primary = site.deployment("a")
    primary.health.cooldown.extend(0, 30)
    group = site.group(primary, fallbacks=[site.group(site.deployment("c"), name="spare")])
    assert ids(walk(group)) == ["c"]


def test_retries_on_one_provider_are_within_a_budget() -> None:
    site = Site()
    group = site.group(site.deployment("a"))
    calls = sum(1 + (walk(group, BROKEN)[1] is not None) for _ in range(1000))
    assert calls <= 1100


def test_another_provider_is_not_a_matter_of_the_budget() -> None:
    site = Site()
    group = site.group(site.deployment("a"), site.deployment("b"))
    assert all(ids(walk(group, BROKEN)) == ["a", "b"] for _ in range(100))


def test_no_attempt_that_cannot_finish() -> None:
    site = Site()
    first, second = site.deployment("a"), site.deployment("b")
    for _ in range(20):
        second.health.latency.observe(0.0, 2.0)
    assert ids(walk(site.group(first, second), NEVER, deadline_s=1.0))[1] != "b"
    assert ids(walk(site.group(first, second), NEVER, deadline_s=3.0)) == ["a", "b"]


@pytest.mark.parametrize("error", [LATE, BROKEN])
def test_what_took_long_is_not_repeated_in_less_time(error: UpstreamError) -> None:
    site = Site()
    for deadline_s, repeated in ((5.0, False), (8.9, False), (12.0, True)):
        plan = Plan(site.group(site.deployment("a")), REQUEST, deadline_s, random=lambda: 0.5)
        plan.first(0.0)
        assert (plan.after(error, 4.5) is not None) is repeated, deadline_s


@pytest.mark.parametrize("error", [NEVER, LIMITED])
def test_what_was_never_worked_on_may_be_repeated_in_less_time(error: UpstreamError) -> None:
    site = Site()
    policy = RetryPolicy(backoff_s=0.01, backoff_max_s=0.02)
    plan = Plan(site.group(site.deployment("a"), retry=policy), REQUEST, 5.0)
    plan.first(0.0)
    assert plan.after(error, 4.5) is not None


def test_the_time_of_a_repetition_counts_from_its_own_start() -> None:
    site = Site()
    plan = Plan(site.group(site.deployment("a"), retry=RetryPolicy(backoff_s=0.01)), REQUEST, 8.0)
    plan.first(0.0)
    again = plan.after(LATE, 3.0)
    assert again is not None
    assert plan.after(LATE, 3.5) is not None
    plan = Plan(site.group(site.deployment("a"), site.deployment("b")), REQUEST, 5.0)
    plan.first(0.0)
    assert ids([plan.after(LATE, 4.5)]) == ["b"]  # another one may be faster


def test_a_probe_that_the_hedges_do_not_get_can_be_made_by_others() -> None:
    site = Site()
    late, spare = site.deployment("a"), site.deployment("b")
    hedges = RetryBudget(0.01, floor=1)
    for _ in range(5):
        spare.health.breaker.failed(0.0, may_open=True)
    group = site.group(late, spare, hedges=hedges)
    now_s = spare.health.free_at_s(0.0) + 1.0
    assert hedges.take(now_s)  # the only one
    plan = Plan(group, REQUEST, 600.0)
    plan.first(now_s)
    assert plan.hedge(now_s) is None
    assert spare.health.breaker.admit(now_s)


def test_unknown_prices_are_left_out_unless_wanted() -> None:
    site = Site()
    group = site.group(site.deployment("a", price=None), site.deployment("b"))
    assert ids(walk(group)) == ["b"]
    assert Plan(group, REQUEST, 9.0, any_price=True).first(0.0).deployment.id == "a"


def test_the_last_of_a_group_is_never_left_alone() -> None:
    site = Site()
    first, second = site.deployment("a"), site.deployment("b")
    group = site.group(first, second)
    for _ in range(10):
        first.health.failed(0, may_open=group.may_leave(first, 0))
        second.health.failed(0, may_open=group.may_leave(second, 0))
    assert [one.health.breaker.state() for one in (first, second)] == ["open", "closed"]
    alone = site.group(site.deployment("c"))
    for _ in range(100):
        alone.deployments[0].health.failed(0, may_open=alone.may_leave(alone.deployments[0], 0))
    assert ids(walk(alone)) == ["c"]


@given(
    st.integers(1, 4),
    st.integers(0, 3),
    st.integers(1, 6),
    st.lists(st.sampled_from(ERRORS), min_size=10, max_size=10),
)
def test_whatever_fails_calls_are_bounded_and_untried_come_first(
    deployments: int, spares: int, attempts: int, errors: list[UpstreamError]
) -> None:
    site = Site()
    fallbacks = [site.group(site.deployment(f"s{n}"), name=f"spare{n}") for n in range(spares)]
    group = site.group(
        *[site.deployment(f"d{n}") for n in range(deployments)],
        retry=RetryPolicy(attempts=attempts),
        fallbacks=fallbacks,
    )
    taken = []
    plan = Plan(group, REQUEST, 600.0)
    step: Step | None = plan.first(0.0)
    for error in errors:
        if step is None:
            break
        taken.append(step)
        step = plan.after(error, 0.0)
    else:
        assert step is None
    assert len(taken) <= attempts
    for position, one in enumerate(taken):
        again = any(before.deployment is one.deployment for before in taken[:position])
        assert again or one.wait_s == 0


def cut(group: Group, *errors: UpstreamError, at_s: float = 0.0) -> list[Step | None]:
    """The steps after the first one's answer was cut, and those after it that fail."""
    plan = Plan(group, REQUEST, 600.0, random=lambda: 0.5)
    plan.first(0.0)
    return [plan.after_cut(BROKEN, at_s), *(plan.after(error, at_s) for error in errors)]


def test_only_who_can_goes_on_others_first_and_then_the_same() -> None:
    site = Site()
    spare = site.group(site.deployment("s"), site.deployment("t", prefill="vllm"), name="spare")
    group = site.group(
        site.deployment("a", prefill="message"),
        site.deployment("b"),
        site.deployment("c", prefill="prefix"),
        retry=RetryPolicy(attempts=5),
        fallbacks=[spare],
    )
    steps = cut(group, BROKEN, BROKEN)
    assert ids(steps) == ["c", "t", "t"]
    assert steps[2] is not None and steps[2].wait_s > 0
    assert ids(cut(site.group(site.deployment("d"), site.deployment("e")))) == [None]


def test_who_was_cut_goes_on_after_a_wait_where_nobody_else_can() -> None:
    site = Site()
    group = site.group(site.deployment("a", prefill="message"), site.deployment("b"))
    (step,) = cut(group)
    assert step is not None and (step.deployment.id, step.wait_s > 0) == ("a", True)


def test_an_error_of_who_cannot_go_on_is_no_reason_to_stop() -> None:
    site = Site()
    group = site.group(
        *[site.deployment(name, prefill="message") for name in "abcd"], retry=RetryPolicy(attempts=4)
    )
    assert ids(cut(group, INVALID, CONTEXT, BROKEN)) == ["b", "c", "d", None]


def test_going_on_keeps_to_the_rules_of_every_step() -> None:
    site = Site()
    unpriced = site.deployment("p", price=None, prefill="message")
    cooling = site.deployment("c", prefill="message")
    cooling.health.cooldown.extend(0, 30)
    assert ids(cut(site.group(site.deployment("a"), unpriced, cooling))) == [None]
    able = site.group(site.deployment("b", prefill="message"), name="able")
    assert ids(cut(site.group(site.deployment("d"), fallbacks=[able], fallback_on=["timeout"]))) == [None]
    group = site.group(site.deployment("e"), fallbacks=[able])
    assert ids(cut(group)) == ["b"]
    assert ids(cut(group, at_s=600.0)) == [None]
    plan = Plan(group, REQUEST, 600.0)
    plan.first(0.0)
    assert plan.after_cut(INVALID, 0.0) is None


def test_going_on_at_the_same_provider_is_within_the_budget() -> None:
    site = Site()
    group = site.group(site.deployment("a", "one"), site.deployment("b", "one", prefill="message"))
    assert 0 < sum(ids(cut(group)) == ["b"] for _ in range(1000)) <= 100
