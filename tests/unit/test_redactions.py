from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gateway.accounting import redactions
from gateway.accounting.day_sums import day_groups, day_redactions, sums_file
from gateway.accounting.recovery import OpenExchanges
from gateway.accounting.redaction_report import RedactionAnswer, ask_redactions
from gateway.accounting.redactions import RedactionGroup, redactions_of
from gateway.accounting.snapshot_file import read_snapshot, write_snapshot
from gateway.accounting.sums import Sums
from gateway.accounting.totals import Totals
from gateway.errors import InvalidRequest
from gateway.privacy.policy import Actions, DetectorSpec, Policy
from gateway.privacy.redaction import Redaction
from tests.unit.ledger_rows import NOON_S, Writer, attempt, exchange

EMAIL, SSN, PHONE = "EMAIL_ADDRESS", "US_SSN", "PHONE_NUMBER"
POLICY = Policy(DetectorSpec("fast", (EMAIL, SSN, PHONE)), Actions("mask"), b"k" * 16, on_failure="pass")
BOTH = {"input": {EMAIL: 2, SSN: 1}, "output": {EMAIL: 1}}


def test_a_row_holds_only_what_there_is() -> None:
    redaction = Redaction(POLICY)
    assert redaction.row() is None
    redaction.found_in[EMAIL] = 2
    redaction.found_out[PHONE] += 1
    assert redaction.row() == {"input": {EMAIL: 2}, "output": {PHONE: 1}}
    redaction.skipped["image_url"] += 1
    redaction.failed_in = redaction.failed_out = True
    redaction.blocked = SSN
    row = redaction.row()
    assert row is not None and row.keys() == {"input", "output", "skipped", "blocked", "failed"}
    assert (row["skipped"], row["blocked"], row["failed"]) == ({"image_url": 1}, SSN, ["input", "output"])


def test_what_failed_or_was_blocked_alone_is_told() -> None:
    redaction = Redaction(POLICY)
    redaction.failed_out = True
    assert redaction.row() == {"failed": ["output"]}
    redaction = Redaction(POLICY)
    redaction.blocked = SSN
    assert redaction.row() == {"blocked": SSN}


def test_a_row_as_an_entry() -> None:
    found = {**BOTH, "skipped": {"image_url": 3}, "blocked": SSN, "failed": ["output"]}
    group, numbers = redactions_of(exchange(redactions=found), NOON_S)
    assert group == RedactionGroup(
        NOON_S,
        "acme",
        "chat",
        (
            ("blocked", SSN),
            ("failed", "output"),
            ("input", EMAIL),
            ("input", SSN),
            ("output", EMAIL),
            ("skipped", "image_url"),
        ),
    )
    assert numbers == [1, 1, 1, 2, 1, 1, 3]


def test_beyond_the_bound_each_counts_on_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redactions, "MOST_GROUPS", 1)
    sums = Sums()
    for found in ({"input": {PHONE: 1}}, BOTH, BOTH, {"input": {PHONE: 4}}):
        sums.add_redactions(*redactions_of(exchange(redactions=found), NOON_S))
    counts = {group.found: numbers for group, numbers in sums.redactions.items()}
    assert counts == {
        (("input", PHONE),): [2, 5],
        (("input", EMAIL),): [2, 4],
        (("input", SSN),): [2, 2],
        (("output", EMAIL),): [2, 2],
    }


ROWS: tuple[dict[str, Any], ...] = (
    {"redactions": BOTH},
    {"redactions": {"input": {EMAIL: 3}}, "tenant": "other"},
    {"redactions": {"input": {PHONE: 5}, "skipped": {"image_url": 2}}, "model": "big"},
    {"redactions": {"failed": ["input"]}},
    {"redactions": {"blocked": SSN}, "admitted": NOON_S + 3600},
    {"redactions": {"blocked": SSN}, "tenant": "other"},
)


def answered(**parameters: str) -> dict[str, Any]:
    sums = Sums()
    for changes in ROWS:
        row = exchange(**changes)
        sums.add_redactions(*redactions_of(row, row["admitted"]))
    answer = RedactionAnswer(ask_redactions(parameters.items()))
    answer.add(sums.redactions.items())
    return answer.as_dict()


def groups(answer: dict[str, Any]) -> list[tuple[list[str], int, int]]:
    return [(list(one["group"].values()), one["count"], one["requests"]) for one in answer["data"]]


def test_an_answer_is_by_tenant_entity_and_direction() -> None:
    found = answered()
    assert found == {
        "total": 12,
        "data": [
            {
                "group": {"tenant": tenant, "entity": entity, "direction": direction},
                "count": count,
                "requests": 1,
            }
            for tenant, entity, direction, count in (
                ("acme", PHONE, "input", 5),
                ("other", EMAIL, "input", 3),
                ("acme", EMAIL, "input", 2),
                ("acme", EMAIL, "output", 1),
                ("acme", SSN, "input", 1),
            )
        ],
        "skipped": {"image_url": 2},
        "blocked": {SSN: 2},
        "failed": {"input": 1},
    }


@pytest.mark.parametrize(
    "parameters, expected",
    [
        ({"group_by": ""}, [([], 12, 3)]),
        ({"group_by": "tenant"}, [(["acme"], 9, 2), (["other"], 3, 1)]),
        ({"group_by": "tenant", "model": "chat"}, [(["acme"], 4, 1), (["other"], 3, 1)]),
        ({"group_by": "entity"}, [([EMAIL], 6, 2), ([PHONE], 5, 1), ([SSN], 1, 1)]),
        ({"group_by": "entity", "direction": "output"}, [([EMAIL], 1, 1)]),
        ({"group_by": "model,direction", "entity": EMAIL, "tenant": "acme"},
         [(["chat", "input"], 2, 1), (["chat", "output"], 1, 1)]),
        ({"group_by": "day, hour"}, [(["2026-11-21", "2026-11-21T12:00:00Z"], 12, 3)]),
        ({"from": "2026-11-22"}, []),
        ({"tenant": "nobody"}, []),
    ],
)  # fmt: skip
def test_groups(parameters: dict[str, str], expected: list[tuple[list[str], int, int]]) -> None:
    assert groups(answered(**parameters)) == expected


@pytest.mark.parametrize(
    "parameters, beside",
    [
        ({"tenant": "acme"}, ({"image_url": 2}, {SSN: 1}, {"input": 1})),
        ({"model": "chat"}, ({}, {SSN: 2}, {"input": 1})),
        ({"entity": EMAIL}, ({}, {}, {})),
        ({"entity": SSN, "direction": "input"}, ({}, {SSN: 2}, {})),
        ({"direction": "output"}, ({"image_url": 2}, {SSN: 2}, {})),
        ({"to": "2026-11-21T13:00:00Z"}, ({"image_url": 2}, {SSN: 1}, {"input": 1})),
    ],
)
def test_what_is_told_beside_groups(parameters: dict[str, str], beside: tuple[dict[str, int], ...]) -> None:
    found = answered(**parameters)
    assert (found["skipped"], found["blocked"], found["failed"]) == beside


@pytest.mark.parametrize(
    "parameters, param, said",
    [
        ([("user", "ann")], "user", "use tenant, entity, direction, model, from, to, group_by."),
        ([("tag:team", "x")], "tag:team", "use tenant, entity"),
        ([("entity", "A"), ("entity", "B")], "entity", "twice"),
        ([("direction", "both")], "direction", "input or output"),
        ([("from", "yesterday")], "from", "2026-11-20T15:00:00Z"),
        ([("from", "2026-11-21"), ("to", "2026-11-20")], "from", "before"),
        ([("group_by", "team")], "group_by", "use tenant, entity, direction, model, day, hour."),
    ],
)
def test_bad_questions_are_explained(parameters: list[tuple[str, str]], param: str, said: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        ask_redactions(parameters)
    assert refused.value.param == param and said in refused.value.message


def read_all(folder: Path) -> Totals:
    totals = Totals(folder)
    totals.load()
    while totals.read_on():
        pass
    return totals


def two_days(folder: Path) -> dict[RedactionGroup, list[int]]:
    """Rows of a finished day and of one that is read; the sums of either day."""
    writer = Writer(folder)
    rows = [exchange("1"), exchange("2", redactions=BOTH), attempt("3", redactions=BOTH)]
    writer.write(rows, "2026-11-20")
    writer.write(rows, "2026-11-21")
    totals = read_all(folder)
    totals.save()
    totals.close()
    return dict([redactions_of(rows[1], NOON_S)])


def without_redactions(path: Path) -> None:
    """As a former version wrote it."""
    lines = read_snapshot(path)
    assert lines is not None
    del lines[0]["redactions"]
    write_snapshot(path, lines)


@pytest.mark.parametrize("former", [False, True])
def test_sums_of_a_finished_day(tmp_path: Path, former: bool) -> None:
    """Those that a former version wrote, too: then the rows tell."""
    expected = two_days(tmp_path)
    day = tmp_path / "2026-11-20.jsonl"
    if former:
        without_redactions(sums_file(tmp_path, "2026-11-20"))
    assert day_redactions(day) == expected and len(day_groups(day)) == 1
    day.unlink()
    assert day_redactions(day) == ({} if former else expected) and len(day_groups(day)) == 1


@pytest.mark.parametrize("former", [False, True])
def test_a_checkpoint_is_taken_up(tmp_path: Path, former: bool) -> None:
    expected = two_days(tmp_path)
    if former:
        without_redactions(tmp_path / "checkpoint")
    totals = read_all(tmp_path)
    day, found = totals.current_redactions()
    assert (day, dict(found)) == ("2026-11-21", expected)
    assert set(expected) <= {group for group, _ in totals.take_changed(100)[1]}
    totals.close()


def test_a_former_version_reads_what_is_written_now(tmp_path: Path) -> None:
    """It takes any line with another name than these for something else."""
    two_days(tmp_path)
    for path in (tmp_path / "checkpoint", sums_file(tmp_path, "2026-11-20")):
        lines = read_snapshot(path)
        assert lines is not None and {name for name, _ in lines[1:]} <= {"groups", "charges", "open"}


@pytest.mark.parametrize("fault", [1, {"input": 1}, {"input": {EMAIL: "many"}}, {"failed": 1}])
def test_money_counts_whatever_redactions_are(tmp_path: Path, fault: Any) -> None:
    Writer(tmp_path).write([exchange("1", nanousd=7, redactions=fault), exchange("2", redactions=BOTH)])
    totals = read_all(tmp_path)
    assert totals.charged("acme") == 1007 and len(totals.current_redactions()[1]) == 1
    totals.close()


def test_what_a_crash_left_open_keeps_what_was_found() -> None:
    still_open = OpenExchanges()
    still_open.begin(attempt("1", redactions={"input": {EMAIL: 1}}))
    still_open.begin(attempt("2"))
    first, second = still_open.recovered()
    assert first["redactions"] == {"input": {EMAIL: 1}} and "redactions" not in second
