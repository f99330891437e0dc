"""What ``llm-gateway redact --coverage`` prints."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from itertools import zip_longest
from typing import get_args

import typer

from gateway.cli.tables import Column, print_table
from gateway.privacy.coverage import BODY, Status, by_holder, matrix

_STATUSES: tuple[Status, ...] = get_args(Status)
_COLUMNS = (Column("in"), Column("is"), Column("what"))
_LABEL_CHARS = 26
_LEGEND = """\
kept: names, numbers and choices that a provider compares; what looks like none is searched.
not searched: refused, or passed and counted, as a policy's `uncovered` says;
logprobs where they are asked for. not searched (numbers): passed."""

Cells = dict[Status, list[str]]


def print_coverage(as_json: bool) -> None:
    """The matrix: what is searched, by route and part of requests and answers."""
    found = matrix()
    if as_json:
        shown = [
            {"route": route, "direction": direction, "part": part.name, "status": part.status}
            for route, directions in found.items()
            for direction, parts in directions.items()
            for part in parts
        ]
        typer.echo(json.dumps(shown))
        return
    for route, directions in found.items():
        for direction, parts in directions.items():
            typer.echo(f"{route}: {direction}")
            print_table(_COLUMNS, list(_lines(by_holder(parts), "", [BODY], 0)))
    typer.echo(_LEGEND)


def _lines(holders: dict[str, Cells], holder: str, names: list[str], depth: int) -> Iterator[list[str]]:
    """A row for each status of ``holder``, which goes by ``names``, and below it, further in, those of the
    objects in it; of objects that are alike only once."""
    indent = "  " * depth
    labels = textwrap.wrap(
        ", ".join(names), _LABEL_CHARS, initial_indent=indent, subsequent_indent=f"{indent}  "
    )
    cells = [(status, ", ".join(holders[holder].get(status, ()))) for status in _STATUSES]
    rows = [(status, what) for status, what in cells if what]
    for label, row in zip_longest(labels, rows):
        yield [label or "", *(row or ("", ""))]
    for alike in _alike(holders, holder):
        yield from _lines(holders, alike[0], [one.rpartition(".")[2] for one in alike], depth + 1)


def _alike(holders: dict[str, Cells], holder: str) -> list[list[str]]:
    """The objects in ``holder``, those that hold the same together."""
    found: dict[str, list[str]] = {}
    for other in holders:
        if other and other.rpartition(".")[0] == holder:
            inside = [(name[len(other) :], cells) for name, cells in holders.items() if _is_in(name, other)]
            found.setdefault(repr(inside), []).append(other)
    return list(found.values())


def _is_in(name: str, holder: str) -> bool:
    return name == holder or name.startswith(f"{holder}.")
