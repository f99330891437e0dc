"""``llm-gateway project``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Annotated

import typer

from gateway.accounting.money import format_usd
from gateway.accounting.usage import Usage, seen_usage
from gateway.cli.admin_client import fail
from gateway.cli.candidates import NO_PRICE, Candidate, candidates
from gateway.cli.ledger import read_settings
from gateway.cli.tables import Column, count, money, print_csv, print_table

MONTH_DAYS = Fraction("30.4")
_VOLUME = re.compile(r"(\d{1,12}(?:\.\d{1,6})?)\s*/\s*(s|second|hour|day|month)")
_PER_MONTH = {
    "s": 86400 * MONTH_DAYS,
    "second": 86400 * MONTH_DAYS,
    "hour": 24 * MONTH_DAYS,
    "day": MONTH_DAYS,
    "month": Fraction(1),
}
_COLUMNS = (
    Column("model"),
    Column("feature"),
    Column("requests/month", number=True),
    Column("input p50/p95", number=True),
    Column("output p50/p95", number=True),
    Column("$/month at p50", number=True),
    Column("$/month at p95", number=True),
)
_CSV = (
    Column("model"),
    Column("feature"),
    *(
        Column(name, number=True)
        for name in (
            "requests_per_month",
            "input_tokens_p50",
            "input_tokens_p95",
            "output_tokens_p50",
            "output_tokens_p95",
            "month_usd_p50",
            "month_usd_p95",
        )
    ),
)


_RANKS = {"price 0": 1, NO_PRICE: 2}


@dataclass(frozen=True, slots=True)
class Projection:
    """One feature on one model for a month. ``note``: what is odd about the model's price."""

    model: str
    note: str
    usage: Usage
    requests: Fraction
    p50_nanousd: int
    p95_nanousd: int


def project(
    volume: Annotated[str, typer.Option(help="Requests to come: 100000/day; also /s, /hour and /month.")],
    config: Annotated[
        Path, typer.Option("--config", "-c", help="A YAML file, or a folder of them; whose ledger is read.")
    ] = Path("config"),
    feature: Annotated[
        str | None, typer.Option(help="Only this feature; absent: all, in the shares seen so far.")
    ] = None,
    models: Annotated[
        str | None,
        typer.Option(help="Comma-separated: model groups or names of the price table; absent: all groups."),
    ] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV, with all nine decimals.")] = False,
) -> None:
    """Project what a month of traffic would cost on each model.

    Multiplies the tokens of past requests (what 50 and 95 of 100 did not exceed, by feature) by each
    model's price; a price of 0, or none, is marked. A month has 30.4 days; nothing is assumed to be
    cached.
    """
    per_month = monthly(volume)
    settings = read_settings(config)
    ledger = settings.storage.data_dir / "ledger"
    try:
        seen = seen_usage(ledger, feature)
    except OSError as error:
        fail(f"{error.filename or ledger} cannot be read: {error.strerror}")
    if not seen:
        what = "requests" if feature is None else f"requests of the feature {feature!r}"
        fail(f"the ledger in {ledger} holds no answered {what} yet; send some through the gateway first")
    chosen = candidates(settings, models)
    projections = project_all(seen, chosen, per_month)
    if as_csv:
        for name in dict.fromkeys(one.model for one in projections if one.note == NO_PRICE):
            typer.echo(f"note: {name} has no price, and is left out", err=True)
        print_csv(_CSV, [_exact(one) for one in projections if one.note != NO_PRICE])
    else:
        _print(projections, len(seen))


def monthly(volume: str) -> Fraction:
    """Requests a month. Raises ``typer.BadParameter``."""
    found = _VOLUME.fullmatch(volume.strip())
    if found is None or not Fraction(found[1]):
        raise typer.BadParameter(
            "use a number and a time, such as 100000/day, 5/s, 2000/hour or 3000000/month",
            param_hint="--volume",
        )
    return Fraction(found[1]) * _PER_MONTH[found[2]]


def project_all(
    seen: Sequence[Usage], chosen: Sequence[Candidate], per_month: Fraction
) -> list[Projection]:
    """Every feature on every model; the cheapest model first, those without a price, or with 0, last."""
    all_requests = sum(usage.requests for usage in seen)
    found = []
    for candidate in chosen:
        rows = []
        for usage in seen:
            requests = per_month * usage.requests / all_requests
            rows.append(
                Projection(
                    candidate.name,
                    candidate.note,
                    usage,
                    requests,
                    round(requests * candidate.cost_nanousd(usage.input_p50, usage.output_p50)),
                    round(requests * candidate.cost_nanousd(usage.input_p95, usage.output_p95)),
                )
            )
        found.append(rows)
    found.sort(key=lambda rows: (_RANKS.get(rows[0].note, 0), sum(row.p50_nanousd for row in rows)))
    return [row for rows in found for row in rows]


def _exact(one: Projection) -> list[str]:
    usage = one.usage
    tokens = (usage.input_p50, usage.input_p95, usage.output_p50, usage.output_p95)
    return [
        one.model,
        usage.feature,
        *map(str, (round(one.requests), *tokens)),
        format_usd(one.p50_nanousd),
        format_usd(one.p95_nanousd),
    ]


def _print(projections: Sequence[Projection], features: int) -> None:
    """With several features each model ends in its sum."""
    rows = []
    for start in range(0, len(projections), features):
        part = projections[start : start + features]
        rows += [_shown(one) for one in part]
        if features > 1:
            requests = round(sum(one.requests for one in part))
            p50, p95 = sum(one.p50_nanousd for one in part), sum(one.p95_nanousd for one in part)
            rows.append(
                [_model(part[0]), "all", count(requests), "", "", *_amounts(part[0].note, p50, p95)]
            )
    print_table(_COLUMNS, rows, section=features + 1 if features > 1 else 0)


def _shown(one: Projection) -> list[str]:
    usage = one.usage
    return [
        _model(one),
        usage.feature or "–",
        count(round(one.requests)),
        f"{count(usage.input_p50)} / {count(usage.input_p95)}",
        f"{count(usage.output_p50)} / {count(usage.output_p95)}",
        *_amounts(one.note, one.p50_nanousd, one.p95_nanousd),
    ]


def _model(one: Projection) -> str:
    return f"{one.model} ({one.note})" if one.note else one.model


def _amounts(note: str, *nanousd: int) -> list[str]:
    return ["–" if note == NO_PRICE else money(format_usd(amount)) for amount in nanousd]
