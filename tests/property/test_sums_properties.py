"""Sums are exactly the rows, however these are split, wherever reading stopped, whatever was lost."""

from __future__ import annotations

import random
import tempfile
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.accounting.day_sums import day_groups, list_sum_days
from gateway.accounting.money import to_nanousd
from gateway.accounting.sums import CHARGED, COST, REQUESTS, Sums, entry_of
from gateway.accounting.totals import Totals
from tests.unit.ledger_rows import NOON_S, Writer, attempt, exchange, rows_of

NAMES = st.sampled_from(["a", "b", "ü"])
DAYS = ["2026-11-19", "2026-11-20", "2026-11-21"]


@st.composite
def ledger_row(draw: st.DrawFn) -> dict[str, Any]:
    name = str(draw(st.integers(0, 5)))
    if draw(st.booleans()):
        return attempt(name, draw(st.integers(0, 2)))
    nanousd = draw(st.integers(0, 10**12))
    return exchange(
        name,
        nanousd=nanousd,
        charged=draw(st.integers(0, nanousd)),
        admitted=NOON_S - 3600 * draw(st.integers(0, 60)) + draw(st.integers(0, 3599)),
        tenant=draw(NAMES),
        key=draw(NAMES),
        feature=draw(NAMES),
        user=draw(st.text(max_size=3)),
        tags=draw(st.dictionaries(NAMES, NAMES, max_size=2)),
        deployment=draw(st.none() | NAMES),
        usage={
            "input_tokens": draw(st.integers(0, 10**9)),
            "output_tokens": draw(st.integers(0, 10**9)),
            "cached_input_tokens": draw(st.integers(0, 10**6)),
        },
    )


def all_sums(folder: Path, totals: Totals) -> list[int]:
    """Of everything that is known: the day that is read, and the days before."""
    current, sums = totals.current()
    found = [numbers for _, numbers in sums]
    for path in list_sum_days(folder):
        if path.stem < current:
            found += day_groups(path).values()
    return [sum(column) for column in zip(*found, strict=True)] if found else [0] * 6


def expected(folder: Path) -> list[int]:
    rows = rows_of(folder)
    usage = [row["usage"] for row in rows]
    return [
        len(rows),
        sum(one["input_tokens"] for one in usage),
        sum(one["output_tokens"] for one in usage),
        sum(one["cached_input_tokens"] for one in usage),
        sum(to_nanousd(Decimal(row["cost_usd"])) for row in rows),
        sum(to_nanousd(Decimal(row["charged_usd"])) for row in rows),
    ]


def still_open(folder: Path) -> set[str]:
    lines = sorted(rows_of(folder, "attempt") + rows_of(folder), key=lambda row: row["seq"])
    found: set[str] = set()
    for row in lines:
        if row["kind"] == "exchange":
            found.discard(row["id"])
        elif row["n"] == 0:
            found.add(row["id"])
    return found


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([0, 0, 0, 1]), ledger_row()), max_size=40),
    st.lists(
        st.sampled_from(["read", "save", "crash", "lose_checkpoint", "damage", "lose_sums"]), max_size=40
    ),
    st.integers(2, 60_000),
    st.randoms(use_true_random=False),
)
def test_sums_are_the_rows(
    written: list[tuple[int, dict[str, Any]]], steps: list[str], most: int, chance: random.Random
) -> None:
    """Between the rows anything happens to the process and to what it derived."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "w"
        writer, day = Writer(folder), 0
        totals = Totals(folder, most_groups=most)
        totals.load()
        try:
            for position, (later, row) in enumerate(written):
                day = min(day + later, len(DAYS) - 1)
                writer.write([row], DAYS[day])
                for step in steps[position : position + 1]:
                    totals = _happen(step, folder, totals, most, chance)
            while totals.read_on(chance.choice([None, writer.head.seq])):
                pass
            assert all_sums(folder, totals) == expected(folder)
            assert {row["id"] for row in totals.open.recovered()} == still_open(folder)
            assert _charged(totals) == _charged_rows(folder)
        finally:
            totals.close()


def _happen(step: str, folder: Path, totals: Totals, most: int, chance: random.Random) -> Totals:
    if step == "read":
        totals.read_on(chance.choice([None, chance.randrange(50)]))
        return totals
    if step == "save":
        totals.save()
        return totals
    totals.close()
    checkpoint = folder / "checkpoint"
    if step == "lose_checkpoint":
        checkpoint.unlink(missing_ok=True)
    elif step == "damage" and checkpoint.exists():
        content = bytearray(checkpoint.read_bytes())
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        checkpoint.write_bytes(content)
    elif step == "lose_sums":
        for path in folder.glob("sums-*"):
            path.unlink()
    anew = Totals(folder, most_groups=most)
    anew.load()
    return anew


def _charged(totals: Totals) -> dict[str, int]:
    return {tenant: totals.charged(tenant) for tenant in ("a", "b", "ü")}


def _charged_rows(folder: Path) -> dict[str, int]:
    found: Counter[str] = Counter({"a": 0, "b": 0, "ü": 0})
    for row in rows_of(folder):
        found[row["tenant"]] += to_nanousd(Decimal(row["charged_usd"]))
    return dict(found)


@given(st.lists(ledger_row(), max_size=60), st.integers(1, 10))
def test_a_bound_on_groups_loses_no_money(rows: list[dict[str, Any]], most: int) -> None:
    entries = [entry_of(row) for row in rows if row["kind"] == "exchange"]
    sums = Sums(most)
    for group, numbers in entries:
        sums.add(group, numbers)
    for column in (REQUESTS, COST, CHARGED):
        held = sum(numbers[column] for numbers in sums.groups.values())
        assert held == sum(numbers[column] for _, numbers in entries)
    by_tenant: Counter[str] = Counter()
    for group, numbers in entries:
        by_tenant[group.tenant] += numbers[COST]
    for group, numbers in sums.groups.items():
        by_tenant[group.tenant] -= numbers[COST]
    assert not any(by_tenant.values())
