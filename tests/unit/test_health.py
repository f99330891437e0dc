"""What is shared by all that is called with one credential."""

from __future__ import annotations

import pytest

from gateway.control.concurrency import MOST, Concurrency, Permit
from gateway.errors import Sent, Unavailable, UpstreamError
from gateway.routing.breaker import BreakerPolicy
from gateway.routing.deployment import Group
from gateway.routing.health import UNBOUNDED, Learned
from gateway.routing.plan import Plan
from tests.unit.routing_rig import REQUEST, Site


def site(share: int) -> Site:
    made = Site()
    made.learned = Learned(lambda name, state: None, lambda: share)
    return made


def test_a_provider_has_no_more_than_its_share() -> None:
    here = site(2)
    slow, other, spare = (
        here.deployment("a", "one"),
        here.deployment("b", "one"),
        here.deployment("c", "two"),
    )
    group = here.group(slow, other, spare)
    slow.health.began()
    other.health.began()
    assert Plan(group, REQUEST, 9.0).first(0.0).deployment is spare
    with pytest.raises(Unavailable) as caught:
        Plan(here.group(slow, other), REQUEST, 9.0).first(0.0)
    assert (caught.value.code, caught.value.retry_after_s) == ("overloaded", 1)
    other.health.ended()
    assert Plan(group, REQUEST, 9.0).first(0.0).deployment is slow
    assert [one.health.in_flight for one in (slow, other)] == [1, 0]


def test_the_only_provider_has_all_of_it() -> None:
    here = site(1)
    only = here.deployment("a", "one")
    for _ in range(5):
        only.health.began()
    assert Plan(here.group(only), REQUEST, 9.0).first(0.0).deployment is only


def test_a_new_credential_begins_anew() -> None:
    learned = Learned(lambda name, state: None, lambda: UNBOUNDED)
    policy = BreakerPolicy()
    old = learned.health("d", "provider/old", "m", policy)
    old.account.refused.extend(0.0, 60.0)
    assert learned.health("d", "provider/old", "m", policy).free_at_s(1.0) == 60.0
    assert learned.health("other", "provider/old", "n", policy).free_at_s(1.0) == 60.0
    assert learned.health("d", "provider/new", "m", policy).free_at_s(1.0) == 1.0


def test_who_is_alone_is_kept_by_a_hint_alone_and_for_a_minute_at_most() -> None:
    here = Site()
    shared = [here.deployment(name, "one") for name in ("two-1", "hedged-1")]
    two = here.group(shared[0], fallbacks=[here.group(here.deployment("spare"), name="spare")])
    hedged = here.group(shared[1], name="hedged")

    def first(group: Group, now_s: float) -> str:
        return Plan(group, REQUEST, 900.0).first(now_s).deployment.id

    shared[0].health.cooldown.extend(0.0, 10.0)  # nobody asked for this
    assert [first(group, 1.0) for group in (two, hedged)] == ["spare", "hedged-1"]
    assert [first(group, 10.0) for group in (two, hedged)] == ["two-1", "hedged-1"]
    shared[0].health.cooldown.extend(20.0, 250.0, 250.0)
    with pytest.raises(Unavailable) as caught:
        first(hedged, 30.0)
    assert caught.value.retry_after_s == 50
    assert [first(group, 80.0) for group in (two, hedged)] == ["spare", "hedged-1"]
    assert first(two, 270.0) == "two-1"


def test_the_others_of_a_group_come_before_its_last() -> None:
    here = Site()
    limited, other = here.deployment("a"), here.deployment("b")
    group = here.group(limited, other)
    limited.health.cooldown.extend(0.0, 10.0)
    assert Plan(group, REQUEST, 9.0).first(1.0).deployment is other
    other.health.cooldown.extend(0.0, 20.0, 20.0)
    assert Plan(group, REQUEST, 9.0).first(1.0).deployment is limited
    limited.health.cooldown.extend(0.0, 5.0, 5.0)
    third = here.deployment("c")
    plan = Plan(here.group(third, limited, other), REQUEST, 9.0)
    assert plan.first(1.0).deployment is third
    third.health.cooldown.extend(1.0, 10.0, 10.0)
    step = plan.after(UpstreamError("x", status=429, code="upstream_rate_limited"), 5.0)
    assert step is not None and step.deployment is limited and not step.wait_s
    with pytest.raises(Unavailable) as caught:
        Plan(group, REQUEST, 9.0).first(1.0)
    assert caught.value.retry_after_s == 4


def test_places_that_are_all_taken_are_not_waited_for_twice() -> None:
    here = site(9)
    taken = UpstreamError("x", sent=Sent.NEVER, status=503, code="overloaded", blames_deployment=False)
    plan = Plan(here.group(here.deployment("a")), REQUEST, 600.0)
    plan.first(0.0)
    assert plan.after(taken, 1.0) is None
    plan = Plan(here.group(here.deployment("a"), here.deployment("b")), REQUEST, 600.0)
    plan.first(0.0)
    step = plan.after(taken, 1.0)
    assert step is not None and step.deployment.id == "b"


async def test_a_share_is_half_of_what_there_can_be() -> None:
    places = Concurrency(start=40)
    assert places.share() == MOST // 2
    for _ in range(30):
        await places.take(Permit())
    places.observe(0.03)
    assert places.share() == 40  # there is room for all
    for _ in range(6):
        await places.take(Permit())
    assert places.share() == 20
    places.observe(0.06)
    assert places.share() == places.limit // 2 == 16
