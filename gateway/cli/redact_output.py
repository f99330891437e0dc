"""What ``llm-gateway redact`` prints."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Any

import typer

from gateway.cli.redact_verdict import Find, Verdict
from gateway.cli.tables import Column, print_table

_MOST_ROWS = 1000
_COLUMNS = (
    Column("where"),
    Column("entity"),
    Column("score", number=True),
    Column("action"),
    Column("value"),
)


def print_json(verdict: Verdict) -> None:
    """One object in one line, for programs."""
    shown = asdict(verdict) | {"counts": dict(sorted(verdict.counts.items()))}
    typer.echo(json.dumps(shown, ensure_ascii=False))


def print_verdict(verdict: Verdict) -> None:
    """For people: the finds, what was not searched, and the redacted text."""
    if verdict.policy:
        typer.echo(f"policy of {verdict.policy}")
    if verdict.finds:
        print_table(_COLUMNS, [_row(find) for find in verdict.finds[:_MOST_ROWS]])
    if len(verdict.finds) > _MOST_ROWS:
        typer.echo(f"these are the first {_MOST_ROWS:,}; --json tells all {len(verdict.finds):,}")
    typer.echo(_summary(verdict))
    for kind, count in verdict.skipped.items():
        passed = "" if verdict.refused else ", and passed"
        typer.echo(f"not searched{passed}: {kind}" + (f" ({count} times)" if count > 1 else ""))
    if verdict.failed:
        typer.echo(f"the search failed: {verdict.failed}")
    for reason in verdict.refused:
        typer.echo(f"refused: {reason}")
    if verdict.redacted:
        text = _printed(verdict.redacted)
        typer.echo(f"\n{text}", nl=not text.endswith("\n"))


def _row(find: Find) -> list[str]:
    value = find.value.replace("\n", "↵")
    return [find.where, find.entity, f"{find.score:.2f}", find.action, value]


def _summary(verdict: Verdict) -> str:
    if not verdict.finds:
        return "nothing was found" if not verdict.failed else "nothing was searched"
    return ", ".join(f"{count} {entity}" for entity, count in sorted(verdict.counts.items()))


def _printed(redacted: str | dict[str, Any]) -> str:
    text = redacted if isinstance(redacted, str) else json.dumps(redacted, indent=2, ensure_ascii=False)
    if not sys.stdout.isatty():
        return text
    return "".join(one if one.isprintable() or one in "\n\t" else "�" for one in text)
