"""Sums of redactions are exactly the rows, in any order, wherever reading stopped, whatever was lost."""

from __future__ import annotations

import random
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.accounting import redactions
from gateway.accounting.day_sums import day_redactions, list_sum_days, sums_file
from gateway.accounting.redaction_report import RedactionAnswer, ask_redactions
from gateway.accounting.redactions import RedactionGroup, redactions_of
from gateway.accounting.snapshot_file import read_snapshot, write_snapshot
from gateway.accounting.sums import Numbers, Sums
from gateway.accounting.totals import Totals
from tests.unit.ledger_rows import NOON_S, Writer, attempt, exchange

NAMES = st.sampled_from(["A", "B", "ü"])
COUNTS = st.dictionaries(NAMES, st.integers(1, 10**6), min_size=1)
DIRECTIONS = ("input", "output")
DAYS = ["2026-11-19", "2026-11-20", "2026-11-21"]
FOUND = st.fixed_dictionaries(
    {},
    optional={
        "input": COUNTS,
        "output": COUNTS,
        "skipped": COUNTS,
        "blocked": NAMES,
        "failed": st.lists(st.sampled_from(DIRECTIONS), min_size=1, unique=True),
    },
)


@st.composite
def ledger_row(draw: st.DrawFn) -> dict[str, Any]:
    found = draw(FOUND)
    changes: dict[str, Any] = {"tenant": draw(NAMES), "redactions": found} if found else {}
    if draw(st.integers(0, 4)) == 0:
        return attempt("1", **changes)
    admitted = NOON_S - 3600 * draw(st.integers(0, 30)) + draw(st.integers(0, 3599))
    return exchange(**changes, model=draw(NAMES), admitted=admitted)


def counted(
    rows: list[dict[str, Any]], names: list[str], **wanted: str
) -> dict[tuple[str, ...], list[int]]:
    """By group: finds and distinct requests, straight from the rows."""
    counts: Counter[tuple[str, ...]] = Counter()
    requests: Counter[tuple[str, ...]] = Counter()
    for row in rows:
        seen = set()
        for direction in DIRECTIONS:
            for entity, count in row.get("redactions", {}).get(direction, {}).items():
                one = {"tenant": row["tenant"], "model": row["model"]}
                one |= {"entity": entity, "direction": direction}
                if all(one[name] == value for name, value in wanted.items()):
                    group = tuple(one[name] for name in names)
                    counts[group] += count
                    seen.add(group)
        requests.update(seen)
    return {group: [count, requests[group]] for group, count in counts.items()}


def answered(sums: list[tuple[RedactionGroup, Numbers]], **asked: str) -> dict[tuple[str, ...], list[int]]:
    answer = RedactionAnswer(ask_redactions(asked.items()))
    answer.add(sums)
    data = answer.as_dict()["data"]
    return {tuple(one["group"].values()): [one["count"], one["requests"]] for one in data}


def exchanges(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for row in rows if row["kind"] == "exchange"]


@given(
    st.lists(ledger_row(), max_size=30).flatmap(
        lambda rows: st.tuples(st.just(rows), st.permutations(rows))
    ),
    st.lists(st.sampled_from(["tenant", "entity", "direction", "model"]), unique=True),
    st.dictionaries(st.sampled_from(["tenant", "entity", "model"]), NAMES)
    | st.fixed_dictionaries({"direction": st.sampled_from(DIRECTIONS)}),
)
def test_any_order_of_rows_has_the_sums_of_the_rows(
    orders: tuple[list[dict[str, Any]], list[dict[str, Any]]], names: list[str], wanted: dict[str, str]
) -> None:
    found = []
    for rows in orders:
        sums = Sums()
        for row in exchanges(rows):
            if "redactions" in row:
                sums.add_redactions(*redactions_of(row, row["admitted"] // 3600 * 3600))
        found.append(sums.redactions)
        expected = counted(exchanges(rows), names, **wanted)
        assert answered(list(sums.redactions.items()), group_by=",".join(names), **wanted) == expected
    assert found[0] == found[1]


@given(st.lists(ledger_row(), max_size=30), st.integers(0, 5))
def test_a_bound_on_groups_loses_no_count(rows: list[dict[str, Any]], most: int) -> None:
    bound, redactions.MOST_GROUPS = redactions.MOST_GROUPS, most
    try:
        sums = Sums()
        for row in exchanges(rows):
            if "redactions" in row:
                sums.add_redactions(*redactions_of(row, NOON_S))
    finally:
        redactions.MOST_GROUPS = bound
    names = ["tenant", "entity", "direction", "model"]
    found = answered(list(sums.redactions.items()), group_by=",".join(names))
    assert found == counted(exchanges(rows), names)


STEPS = ["read", "save", "crash", "lose_checkpoint", "lose_sums", "former_checkpoint", "former_sums"]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([0, 0, 0, 1]), ledger_row()), max_size=40),
    st.lists(st.sampled_from(STEPS), max_size=40),
    st.randoms(use_true_random=False),
)
def test_sums_are_the_rows(
    written: list[tuple[int, dict[str, Any]]], steps: list[str], chance: random.Random
) -> None:
    """Between the rows anything happens to the process, and a former version takes its place."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "w"
        writer, day = Writer(folder), 0
        totals = Totals(folder)
        totals.load()
        try:
            for position, (later, row) in enumerate(written):
                day = min(day + later, len(DAYS) - 1)
                writer.write([row], DAYS[day])
                for step in steps[position : position + 1]:
                    totals = _happen(step, folder, totals, chance)
            while totals.read_on():
                pass
            names = ["tenant", "entity", "direction", "model"]
            rows = exchanges([row for _, row in written])
            assert answered(_all(folder, totals), group_by=",".join(names)) == counted(rows, names)
        finally:
            totals.close()


def _all(folder: Path, totals: Totals) -> list[tuple[RedactionGroup, Numbers]]:
    current, sums = totals.current_redactions()
    for path in list_sum_days(folder):
        if path.stem < current:
            sums += day_redactions(path).items()
    return sums


def _happen(step: str, folder: Path, totals: Totals, chance: random.Random) -> Totals:
    if step == "read":
        totals.read_on(chance.choice([None, chance.randrange(50)]))
        return totals
    if step == "save":
        totals.save()
        return totals
    totals.close()
    if step == "lose_checkpoint":
        (folder / "checkpoint").unlink(missing_ok=True)
    elif step == "former_checkpoint":
        _without_redactions(folder / "checkpoint")
    for day in DAYS if step.endswith("_sums") else ():
        path = sums_file(folder, day)
        if step == "lose_sums":
            path.unlink(missing_ok=True)
        else:
            _without_redactions(path)
    anew = Totals(folder)
    anew.load()
    return anew


def _without_redactions(path: Path) -> None:
    lines = read_snapshot(path)
    if lines is not None:
        lines[0].pop("redactions", None)
        write_snapshot(path, lines)
