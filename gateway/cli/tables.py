"""Tables for people, and the same as CSV for programs."""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_WIDE = 400


@dataclass(frozen=True, slots=True)
class Column:
    """``number``: right-aligned, and never taken for a formula."""

    title: str
    number: bool = False


def print_csv(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    """To standard output. Text that a spreadsheet would run as a formula gets a leading apostrophe."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow([column.title for column in columns])
    for row in rows:
        writer.writerow([_cell(column, text) for column, text in zip(columns, row, strict=True)])


def _cell(column: Column, text: str) -> str:
    return f"'{text}" if not column.number and text.startswith(_FORMULA) else text


def print_table(
    columns: Sequence[Column],
    rows: Sequence[Sequence[str]],
    total: Sequence[str] | None = None,
    section: int = 0,
) -> None:
    """To standard output; as wide as the terminal, or as it needs to be where there is none. ``total``:
    a last row, set apart. ``section``: a line after every so many rows."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False, width=None if sys.stdout.isatty() else _WIDE)
    table = Table(box=box.SIMPLE_HEAD, show_footer=total is not None, pad_edge=False)
    for position, column in enumerate(columns):
        table.add_column(
            column.title,
            Text(total[position], style="bold") if total is not None else "",
            justify="right" if column.number else "left",
            no_wrap=column.number,
            overflow="fold",
        )
    for number, row in enumerate(rows, 1):
        end = section > 0 and number % section == 0 and number < len(rows)
        table.add_row(*(Text(_printable(text)) for text in row), end_section=end)
    console.print(table)


def _printable(text: str) -> str:
    return "".join(one if one.isprintable() else "�" for one in text)


def money(usd: str | Decimal) -> str:
    """``1234.5`` as ``1,234.50``; small amounts keep the digits that say something."""
    amount = Decimal(usd)
    if not amount:
        return "0.00"
    places = 2 if abs(amount) >= 100 else 4 if abs(amount) >= 1 else 6
    return f"{amount:,.{places}f}"


def count(number: int) -> str:
    return f"{number:,}"
