"""What was found, as a table."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from tests.money.audit import Found
from tests.money.fleet import NANO

_HEADS = ("requests", "admitted", "spent $", "most used $", "budget $", "lost rows", "double rows", "s")


def show(found: Sequence[Found]) -> None:
    table = Table("scenario", title="budgets and limits over three replicas", box=None)
    for head in _HEADS:
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("notes")
    for one in found:
        table.add_row(
            ("[red]! " if one.wrong else "") + one.name,
            str(one.requests),
            str(one.admitted),
            _usd(one.spent),
            _usd(one.most_used),
            _usd(one.budget),
            str(one.lost),
            str(one.double),
            f"{one.took_s:.1f}",
            "; ".join(one.notes),
        )
    console = Console(width=160, highlight=False)
    console.print(table)
    for one in found:
        for text in one.wrong:
            console.print(f"! {one.name}: {text}", markup=False)


def _usd(nanousd: int) -> str:
    return f"{nanousd / NANO:.6f}"
