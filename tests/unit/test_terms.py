"""Which limits and budgets hold for a request, and what is asked of the store for it."""

from __future__ import annotations

from gateway.admission.terms import Allowance, Budget, Limits, Terms
from gateway.storage.interface import RateClaim, SlotClaim

DAY_S = 86_400
NOW_S = 20_000 * DAY_S + 5
ALL = Allowance(Limits(rpm=10, tpm=1000, concurrency=2), Budget(5, "day", (0.5, 1.0)))
TERMS = Terms(
    "acme",
    own=ALL,
    keys={"ci": Allowance(Limits(rpm=3), Budget(4, "hour"))},
    models={"m": Allowance(Limits(tpm=50))},
    features={"search": Allowance(Limits(concurrency=1), Budget(2, "total", (0.8,)))},
    each_user=Allowance(Limits(rpm=1), Budget(1, "month", (1.0,))),
)


def test_all_scopes_hold_together() -> None:
    bound = TERMS.bound("ci", "m", "search", "eve")
    assert bound.requests == [
        RateClaim("t.rpm", 10, 1),
        RateClaim("k:ci.rpm", 3, 1),
        RateClaim("u:eve.rpm", 1, 1),
    ]
    assert bound.tokens == [("t.tpm", 1000), ("m:m.tpm", 50)]
    assert bound.slots == [SlotClaim("t", 2), SlotClaim("f:search", 1)]
    assert [one.name for one in bound.rate_scopes] == ["t", "k:ci", "u:eve", "t", "m:m"]
    assert [one.name for one in bound.fund_scopes] == ["t", "k:ci", "f:search", "u:eve"]
    funds = bound.funds(NOW_S)
    assert [fund.name for fund in funds] == ["t.day", "k:ci.hour", "f:search.total", "u:eve.month"]
    assert [fund.limit_nanousd for fund in funds] == [5, 4, 2, 1]


def test_what_is_not_configured_has_no_counters_of_its_own() -> None:
    bound = TERMS.bound("other", "other", "other", "")
    assert [one.counter for one in bound.requests] == ["t.rpm"]
    assert [name for name, _ in bound.tokens] == ["t.tpm"]
    assert [one.name for one in bound.fund_scopes] == ["t"]


def test_names_that_clients_make_up_take_no_room() -> None:
    """Features that are not configured share one entry; of users there may be any number."""
    terms = Terms("acme", own=ALL, each_user=ALL)
    assert terms.bound("k", "m", "made up", "eve") is terms.bound("k", "m", "also made up", "eve")
    for number in range(10_000):
        terms.bound("k", "m", "", f"user{number}")
    assert len(terms._bound) <= 4096
    without = Terms("acme", own=ALL)
    assert without.bound("k", "m", "", "one") is without.bound("k", "m", "", "two")


def test_names_that_look_like_others_count_apart() -> None:
    everyone = dict.fromkeys(("t", "x", "k:x"), ALL)
    terms = Terms("acme", own=ALL, keys=everyone, models=everyone, features=everyone, each_user=ALL)
    seen = [one.counter for name in everyone for one in terms.bound(name, name, name, name).requests]
    assert len(set(seen)) == 1 + 4 * 3
    assert seen.count("t.rpm") == 3


def test_measured_only_where_it_matters_what_a_request_uses() -> None:
    assert Terms("a").bound("k", "m", "", "").empty
    by_request = Terms("a", own=Allowance(Limits(rpm=1, concurrency=1))).bound("k", "m", "", "")
    assert not by_request.empty and not by_request.measured
    assert Terms("a", own=Allowance(Limits(tpm=1))).bound("k", "m", "", "").measured
    assert Terms("a", own=Allowance(budget=Budget(1, "total"))).bound("k", "m", "", "").measured


def test_a_new_period_has_new_funds() -> None:
    bound = TERMS.bound("ci", "m", "search", "eve")
    today = bound.funds(NOW_S)
    assert bound.funds(NOW_S + 60) is today, "asked for at every admission"
    midnight_s = today[0].end_s
    assert bound.funds(midnight_s - 1)[0] == today[0]
    tomorrow = bound.funds(midnight_s)
    assert tomorrow[0].start_s == midnight_s
    assert tomorrow[2] == today[2], "a total is the same for ever"
    assert bound.funds(midnight_s - 1)[0] == today[0], "clocks may be set back"


def test_alerts_are_those_of_the_scope() -> None:
    assert TERMS.alert_at("t") == (0.5, 1.0)
    assert TERMS.alert_at("k:ci") == ()
    assert TERMS.alert_at("f:search") == (0.8,)
    assert TERMS.alert_at("u:anybody") == (1.0,)
    assert TERMS.alert_at("k:unknown") == TERMS.alert_at("f:unknown") == ()


def test_budgets_that_are_known_beforehand() -> None:
    assert [scope.name for scope in TERMS.budget_scopes()] == ["t", "k:ci", "f:search"]
