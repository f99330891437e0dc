"""``llm-gateway redactions``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from gateway.cli.admin_client import DEFAULT_URL, AdminClient, Token, Url, fail
from gateway.cli.tables import Column, count, print_csv, print_table

_CSV = ("count", "requests")
_BESIDE = (
    ("blocked", "blocked requests"),
    ("skipped", "parts not searched"),
    ("failed", "passed though the search failed"),
)


def redactions(
    tenant: Annotated[str | None, typer.Option(help="Only of this tenant.")] = None,
    entity: Annotated[str | None, typer.Option(help="Only of this entity.")] = None,
    direction: Annotated[str | None, typer.Option(help="Only of this direction: input or output.")] = None,
    model: Annotated[str | None, typer.Option(help="Only of this model.")] = None,
    group_by: Annotated[
        str, typer.Option(help="Comma-separated: tenant, entity, direction, model, day, hour.")
    ] = "tenant,entity,direction",
    from_: Annotated[
        str | None, typer.Option("--from", help="First day, or RFC 3339 time (UTC hours).")
    ] = None,
    to: Annotated[
        str | None, typer.Option("--to", help="Last day (included), or RFC 3339 time (excluded).")
    ] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Show what was found of personal data, over the whole fleet.

    Asks the admin API of a running gateway.
    """
    asked = {
        "tenant": tenant,
        "entity": entity,
        "direction": direction,
        "model": model,
        "group_by": group_by,
        "from": from_,
        "to": to,
    }
    given = {name: value for name, value in asked.items() if value is not None}
    answer = AdminClient(url, token).get("redactions", given)
    try:
        _print(answer, as_csv)
    except (KeyError, TypeError, ValueError):
        fail(f"{url} answers, but not as this version of a gateway does")


def _print(answer: dict[str, Any], as_csv: bool) -> None:
    data: list[dict[str, Any]] = answer["data"]
    names = list(data[0]["group"]) if data else []
    columns = [*(Column(name) for name in names), *(Column(name, number=True) for name in _CSV)]
    groups = [[one["group"][name] for name in names] for one in data]
    if as_csv:
        rows = [
            [*group, *(str(one[name]) for name in _CSV)] for group, one in zip(groups, data, strict=True)
        ]
        print_csv(columns, rows)
        return
    if data:
        rows = [
            [*group, *(count(one[name]) for name in _CSV)] for group, one in zip(groups, data, strict=True)
        ]
        print_table(columns, rows, _total(answer, names) if names else None)
    else:
        typer.echo("Nothing was found.")
    for name, title in _BESIDE:
        if answer[name]:
            typer.echo(f"{title}: " + ", ".join(f"{what} {count(n)}" for what, n in answer[name].items()))


def _total(answer: dict[str, Any], names: list[str]) -> list[str]:
    """Without a sum of the requests: one may be in several groups."""
    label = ["total", *([""] * (len(names) - 1))]
    return [*label, count(answer["total"]), ""]
