from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest

from gateway.accounting.charges import Charges
from gateway.accounting.spend import Answer, Question, ask
from gateway.accounting.sums import CHARGED, COST, Group, Sums, entry_of
from gateway.errors import InvalidRequest
from tests.unit.ledger_rows import NOON_S, exchange


def epoch_s(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=timezone.utc).timestamp())


def test_a_row_as_an_entry() -> None:
    row = exchange(nanousd=1_234_567_890_123, charged=5, tags={"b": "2", "a": "1"}, admitted=NOON_S + 3599)
    group, numbers = entry_of(row)
    assert group == Group(
        NOON_S, "acme", "ci", "search", "ann", "chat", "fake", "chat-1", (("a", "1"), ("b", "2"))
    )
    assert numbers == [1, 10, 20, 3, 1_234_567_890_123, 5]


def test_a_row_of_a_former_version_counts_by_its_time() -> None:
    row = exchange(time="2026-11-21T09:59:59.999Z")
    del row["admitted"]
    assert entry_of(row)[0].hour == epoch_s("2026-11-21T09:00")


@pytest.mark.parametrize(
    "fault",
    [
        {"cost_usd": "many"},
        {"usage": None},
        {"tags": 1},
        {"admitted": None},
        {"cost_usd": None},
        {"usage": {}},
    ],
)
def test_what_is_no_row_is_refused(fault: dict[str, Any]) -> None:
    with pytest.raises((KeyError, TypeError, ValueError, AttributeError)):
        entry_of(exchange(**fault))


def test_beyond_the_bound_users_then_tags_then_features_are_given_up() -> None:
    sums = Sums(10)
    for number in range(40):
        sums.add(*entry_of(exchange(user=f"u{number}", tags={"t": f"{number % 20}"}, feature=f"f{number}")))
    groups = list(sums.groups)
    assert [group.user for group in groups[:10]] == [f"u{number}" for number in range(10)]
    assert {group.user for group in groups[10:]} == {"other"}
    assert groups[10].tags and not groups[11].tags and groups[11].feature == "f11"
    assert groups[-1].feature == "other" and len(groups) <= 14
    assert sums.folded == 30
    assert sum(numbers[COST] for numbers in sums.groups.values()) == 40_000


def group(**changes: Any) -> Group:
    return entry_of(exchange(**changes))[0]


def test_charges_by_payer_and_period() -> None:
    charges = Charges()
    hours = {"2026-10-31T23:00": 1, "2026-11-01T00:00": 2, "2026-11-21T00:00": 4, "2026-11-21T12:00": 8}
    for hour, nanousd in hours.items():
        charges.add(group(admitted=epoch_s(hour)), nanousd)
    charges.add(group(admitted=epoch_s("2026-11-21T12:30"), user="bob", feature="chat"), 16)
    charges.add(group(tenant="other"), 32)
    month, day = epoch_s("2026-11-01T00:00"), epoch_s("2026-11-21T00:00")
    for _ in range(2):  # before and after old hours are put together
        assert charges.charged("acme", None, None, None, 0, 0) == 31
        assert charges.charged("acme", None, None, None, month, epoch_s("2026-12-01T00:00")) == 30
        assert charges.charged("acme", None, None, None, day, day + 86400) == 28
        assert charges.charged("acme", "ci", None, "bob", day, 0) == 16
        assert charges.charged("acme", None, "search", None, NOON_S, NOON_S + 3600) == 8
        assert charges.charged("acme", "no", None, None, 0, 0) == 0
        charges.coarsen(epoch_s("2026-11-21T13:00"))
    charges.coarsen(epoch_s("2027-03-01T00:00"))
    assert charges.charged("acme", None, None, None, month, epoch_s("2026-12-01T00:00")) == 30
    again = Charges()
    again.decode(list(charges.encode()))
    assert again.charged("acme", None, None, "bob", month, 0) == 16


def answered(question: Question) -> dict[str, object]:
    answer = Answer(question)
    sums = Sums()
    for user, feature, nanousd, tags in (
        ("ann", "search", 5, {"team": "x"}),
        ("bob", "search", 7, {"team": "y", "model": "m"}),
        ("ann", "chat", 11, {}),
    ):
        sums.add(*entry_of(exchange(user=user, feature=feature, nanousd=nanousd, tags=tags, charged=1)))
    answer.add(sums.groups.items())
    return answer.as_dict()


def test_an_answer_has_a_group_for_each_combination() -> None:
    found = answered(ask([("group_by", "feature, user")]))
    assert found["total_usd"] == "0.000000023"
    assert found["data"] == [
        {
            "group": {"feature": feature, "user": user},
            "cost_usd": f"0.0000000{nanousd:02d}",
            "charged_usd": "0.000000001",
            "requests": 1,
            "input_tokens": 10,
            "output_tokens": 20,
        }
        for feature, user, nanousd in (("chat", "ann", 11), ("search", "bob", 7), ("search", "ann", 5))
    ]


@pytest.mark.parametrize(
    "parameters, groups",
    [
        ([], [({}, 3)]),
        ([("user", "ann")], [({}, 2)]),
        ([("user", "nobody")], []),
        ([("tag:team", "x"), ("group_by", "team")], [({"team": "x"}, 1)]),
        (
            [("group_by", "tag:model,model"), ("feature", "search")],
            [({"tag:model": "m", "model": "chat"}, 1), ({"tag:model": None, "model": "chat"}, 1)],
        ),
        ([("group_by", "day,hour")], [({"day": "2026-11-21", "hour": "2026-11-21T12:00:00Z"}, 3)]),
        ([("group_by", "team")], [({"team": None}, 1), ({"team": "y"}, 1), ({"team": "x"}, 1)]),
        ([("from", "2026-11-21"), ("to", "2026-11-21")], [({}, 3)]),
        ([("from", "2026-11-22")], []),
        ([("to", "2026-11-20")], []),
        ([("from", "2026-11-21T12:59:00Z"), ("to", "2026-11-21T14:01:00 01:00")], [({}, 3)]),
        ([("to", "2026-11-21T12:00:00Z")], []),
        ([("from", "2026-11-21T13:00:00+00:00")], []),
    ],
)
def test_questions(parameters: list[tuple[str, str]], groups: list[tuple[dict[str, str], int]]) -> None:
    data = answered(ask(parameters))["data"]
    assert isinstance(data, list)
    assert [(one["group"], one["requests"]) for one in data] == groups


@pytest.mark.parametrize(
    "parameters, param, said",
    [
        ([("tennant", "a")], "tennant", "use tenant, key"),
        ([("tenant", "a"), ("tenant", "b")], "tenant", "twice"),
        ([("from", "yesterday")], "from", "2026-11-20T15:00:00Z"),
        ([("to", "2026-02-30")], "to", "RFC 3339"),
        ([("from", "2026-11-21T12:00:00")], "from", "RFC 3339"),
        ([("from", "2026-11-21"), ("to", "2026-11-20")], "from", "before"),
        ([("to", "9999-12-31")], "to", "RFC 3339"),
        ([("group_by", "from")], "group_by", "tenant, key, feature"),
        ([("group_by", ",".join("abcdefghi"))], "group_by", "at most 8"),
    ],
)
def test_bad_questions_are_explained(parameters: list[tuple[str, str]], param: str, said: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        ask(parameters)
    assert refused.value.param == param and said in refused.value.message


def test_charged_is_what_rows_say_not_what_they_cost() -> None:
    assert entry_of(exchange(nanousd=9, charged=4))[1][CHARGED] == 4
