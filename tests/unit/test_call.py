"""What a Call waited for, and what of its cost is charged."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from gateway.calls.call import Call
from gateway.calls.continuing import Join
from gateway.errors import UpstreamError
from gateway.events import Usage
from tests.unit.routing_rig import REQUEST, Site

FAILED = UpstreamError("x")


def attempt(
    started_s: float, ended_s: float | None, *, content_s: float | None = None, error: Any = None
) -> Any:
    return SimpleNamespace(
        started_s=started_s,
        ended_s=ended_s,
        first_content_s=content_s,
        error=error,
        outcome="left",
        deployment=Site().deployment("a", price=10**9),
        billed=lambda: (Usage(1_000_000, 0), "estimated"),
    )


def call(*attempts: Any) -> Call:
    made = Call(Site().group(), REQUEST, 600.0)
    made.attempts.extend(attempts)
    return made


@pytest.mark.parametrize(
    ("attempts", "waited_s"),
    [
        ([], 0.0),
        ([attempt(1, None)], 9.0),
        ([attempt(1, 3, error=FAILED), attempt(5, None, content_s=6)], 3.0),
        ([attempt(1, 4), attempt(2, None, content_s=4)], 3.0),
        ([attempt(1, None, content_s=4), attempt(2, 3)], 3.0),
    ],
    ids=["none", "waiting", "one-after-the-other", "the-hedge-won", "the-hedge-lost"],
)
def test_time_beside_another_attempt_counts_once(attempts: list[Any], waited_s: float) -> None:
    assert call(*attempts).waited_s(10.0) == waited_s


def test_one_attempt_is_charged_and_all_are_cost() -> None:
    failed, first, hedge = attempt(1, 2, error=FAILED), attempt(2, 5), attempt(3, 5)
    left = call(failed, first, hedge)
    assert (left.bill().cost_nanousd, left.bill().charged_nanousd) == (3 * 10**9, 10**9)
    answered = call(failed, first, hedge)
    answered.answering = hedge
    assert (answered.bill().cost_nanousd, answered.bill().charged_nanousd) == (3 * 10**9, 10**9)
    assert call(failed).bill().charged_nanousd == 0


def test_all_that_gave_content_are_charged_and_counted() -> None:
    first, failed, second = attempt(1, 2, error=FAILED), attempt(2, 3, error=FAILED), attempt(3, 4)
    first.first_content_s, second.billed = 1.5, lambda: (Usage(500_000, 10), "provider")
    joined = call(first, failed, second)
    joined.answering = first
    joined.joined(Join(first, second, 7))
    bill = joined.bill()
    assert (bill.usage, bill.source) == (Usage(1_500_000, 10), "estimated")
    assert (bill.cost_nanousd, bill.charged_nanousd) == (25 * 10**8 + 10**4, 15 * 10**8 + 10**4)
    assert (joined.answering, joined.first_content_s) == (second, 1.5)


def test_waiting_for_who_goes_on_is_after_the_head() -> None:
    assert call(attempt(1, 4, content_s=2), attempt(5, 9, content_s=7)).waited_s(3.0) == 1.0
