"""What is shared by all that is called with one credential."""

from __future__ import annotations

import pytest

from gateway.control.concurrency import MOST, Concurrency, Permit
from gateway.errors import Sent, Unavailable, UpstreamError
from gateway.routing.breaker import BreakerPolicy
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
