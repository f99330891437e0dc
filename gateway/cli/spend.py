"""``llm-gateway spend``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from gateway.cli.admin_client import DEFAULT_URL, AdminClient, Token, Url, fail
from gateway.cli.tables import Column, count, money, print_csv, print_table

_FIGURES = (
    Column("requests", number=True),
    Column("input tokens", number=True),
    Column("output tokens", number=True),
    Column("charged $", number=True),
    Column("cost $", number=True),
)
_CSV = ("requests", "input_tokens", "output_tokens", "charged_usd", "cost_usd")


def spend(
    tenant: Annotated[str | None, typer.Option(help="Only of this tenant.")] = None,
    feature: Annotated[str | None, typer.Option(help="Only of this feature.")] = None,
    user: Annotated[str | None, typer.Option(help="Only of this user.")] = None,
    model: Annotated[str | None, typer.Option(help="Only of this model.")] = None,
    key: Annotated[str | None, typer.Option(help="Only of this key.")] = None,
    group_by: Annotated[
        str,
        typer.Option(
            help="Comma-separated: tenant, key, feature, user, model, provider, deployment, day, hour, or"
            " the name of a tag."
        ),
    ] = "tenant,feature,model",
    from_: Annotated[
        str | None, typer.Option("--from", help="First day, or RFC 3339 time (UTC hours).")
    ] = None,
    to: Annotated[
        str | None, typer.Option("--to", help="Last day (included), or RFC 3339 time (excluded).")
    ] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV, with all nine decimals.")] = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Show what was spent, over the whole fleet, by whatever you ask for.

    Asks the admin API of a running gateway.
    """
    asked = {
        "tenant": tenant,
        "feature": feature,
        "user": user,
        "model": model,
        "key": key,
        "group_by": group_by or None,
        "from": from_,
        "to": to,
    }
    given = {name: value for name, value in asked.items() if value is not None}
    answer = AdminClient(url, token).get("spend", given)
    try:
        _print(answer, _names(group_by), as_csv)
    except (KeyError, TypeError, ValueError):
        fail(f"{url} answers, but not as this version of a gateway does")


def _names(group_by: str) -> list[str]:
    names = [name.strip() for name in group_by.split(",") if name.strip()]
    return list(dict.fromkeys(names))


def _print(answer: dict[str, Any], names: list[str], as_csv: bool) -> None:
    data: list[dict[str, Any]] = answer["data"]
    names = list(data[0]["group"]) if data else names
    groups = [[one["group"][name] or "–" for name in names] for one in data]
    if as_csv:
        columns = [*(Column(name) for name in names), *(Column(name, number=True) for name in _CSV)]
        plain = [[one["group"][name] or "" for name in names] for one in data]
        rows = [
            [*group, *(str(one[name]) for name in _CSV)] for group, one in zip(plain, data, strict=True)
        ]
        print_csv(columns, rows)
        return
    columns = [*(Column(name) for name in names), *_FIGURES]
    rows = [[*group, *_figures(one)] for group, one in zip(groups, data, strict=True)]
    if not rows:
        typer.echo("Nothing was spent.")
        return
    print_table(columns, rows, _total(data, names))


def _figures(one: dict[str, Any]) -> list[str]:
    counts = [count(one[name]) for name in _CSV[:3]]
    return [*counts, money(one["charged_usd"]), money(one["cost_usd"])]


def _total(data: list[dict[str, Any]], names: list[str]) -> list[str]:
    from decimal import Decimal

    label = ["total", *([""] * (len(names) - 1))] if names else []
    counts = [count(sum(one[name] for one in data)) for name in _CSV[:3]]
    amounts = [money(sum((Decimal(one[name]) for one in data), Decimal(0))) for name in _CSV[3:]]
    return [*label, *counts, *amounts]
