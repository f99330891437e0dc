"""What requests used and cost, summed up: whole numbers by hour and by all that people ask for."""

from __future__ import annotations

import calendar
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

from gateway.accounting import redactions
from gateway.accounting.money import to_nanousd
from gateway.accounting.redactions import RedactionGroup

HOUR_S = 3600
MOST_GROUPS = 50_000
"""In one day file. Users, tags and features are the clients' to invent, so there must be a bound."""
OTHER = "other"

Numbers = list[int]
"""requests, input_tokens, output_tokens, cached_input_tokens, cost_nanousd, charged_nanousd."""
REQUESTS, INPUT, OUTPUT, CACHED_INPUT, COST, CHARGED = range(6)


class Group(NamedTuple):
    """What one sum is for. ``hour``: its start (epoch seconds), of the time of admission. ``tags``:
    sorted pairs. ``provider`` and ``deployment``: of who answered, None where nobody was called."""

    hour: int
    tenant: str
    key: str
    feature: str
    user: str
    model: str
    provider: str | None
    deployment: str | None
    tags: tuple[tuple[str, str], ...]


AnyGroup = Group | RedactionGroup


def entry_of(row: Mapping[str, Any]) -> tuple[Group, Numbers]:
    """The group and the numbers of an ``exchange`` row.

    Raises ``KeyError``, ``TypeError``, ``ValueError`` or ``AttributeError`` for a row that is no such row.
    """
    usage, tags = row["usage"], row["tags"]
    hour = row["admitted"] if "admitted" in row else _seconds(row["time"])
    group = Group(
        hour - hour % HOUR_S,
        row["tenant"],
        row["key"],
        row["feature"],
        row["user"],
        row["model"],
        row["provider"],
        row["deployment"],
        tuple(sorted(tags.items())) if tags else (),
    )
    cost, charged = row["cost_usd"], row["charged_usd"]
    nanousd = _nanousd(cost)
    return group, [
        1,
        int(usage["input_tokens"]),
        int(usage["output_tokens"]),
        int(usage["cached_input_tokens"]),
        nanousd,
        nanousd if charged == cost else _nanousd(charged),
    ]


def _nanousd(usd: str) -> int:
    """Rows have nine decimals, so that the digits alone are the nano-dollars."""
    if usd[-10:-9] == ".":
        return int(usd.replace(".", "", 1))
    try:
        return to_nanousd(Decimal(usd))
    except ArithmeticError as error:
        raise ValueError(f"{usd!r} is no amount of money") from error


def _seconds(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())


def hour_of_day(day: str) -> int:
    """When a day such as ``2026-11-20`` begins (epoch seconds)."""
    return calendar.timegm(time.strptime(day, "%Y-%m-%d"))


def day_of(seconds: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))


_FOLDS: tuple[Callable[[Group], Group], ...] = (
    lambda group: group._replace(user=OTHER),
    lambda group: group._replace(tags=()),
    lambda group: group._replace(feature=OTHER),
)


class Sums:
    """The sums of one day file's rows, and of their redactions. ``changed``: the groups of either kind that
    were added to since it was emptied.

    Beyond ``most_groups`` what clients invent is given up, step by step: the user becomes ``other``, then
    tags are left out, then the feature becomes ``other``. ``folded``: the rows to which that happened.
    """

    def __init__(self, most_groups: int = MOST_GROUPS) -> None:
        self.groups: dict[Group, Numbers] = {}
        self.redactions: dict[RedactionGroup, Numbers] = {}
        self.changed: set[AnyGroup] = set()
        self.folded = 0
        self._most = most_groups

    def add(self, group: Group, numbers: Numbers) -> Group:
        """Adds one row; the group that it was counted in."""
        held = self.groups.get(group)
        if held is None and len(self.groups) >= self._most:
            group = self._folded(group)
            held = self.groups.get(group)
        if held is None:
            self.groups[group] = numbers.copy()
        else:
            add_to(held, numbers)
        self.changed.add(group)
        return group

    def add_redactions(self, group: RedactionGroup, numbers: Numbers) -> None:
        """Adds one row's; beyond a bound each that was found in it on its own."""
        held = self.redactions.get(group)
        if held is None and len(self.redactions) >= redactions.MOST_GROUPS and len(group.found) > 1:
            for one, count in redactions.apart(group, numbers):
                self.add_redactions(one, count)
            return
        if held is None:
            self.redactions[group] = numbers.copy()
        else:
            add_to(held, numbers)
        self.changed.add(group)

    def all_changed(self) -> None:
        self.changed = {*self.groups, *self.redactions}

    def numbers(self, group: AnyGroup) -> Numbers:
        return self.redactions[group] if isinstance(group, RedactionGroup) else self.groups[group]

    def _folded(self, group: Group) -> Group:
        self.folded += 1
        for step, fold in enumerate(_FOLDS, 1):
            group = fold(group)
            if group in self.groups or len(self.groups) < self._most + step * self._most // 10:
                break
        return group


def add_to(held: Numbers, numbers: Numbers) -> None:
    for index, number in enumerate(numbers):
        if number:
            held[index] += number


def encode_groups(
    groups: Mapping[Group, Numbers] | Mapping[RedactionGroup, Numbers],
) -> Iterable[list[Any]]:
    return ([encode_group(group), numbers] for group, numbers in groups.items())


def encode_group(group: AnyGroup) -> list[Any]:
    """For JSON."""
    return list(group)


def decode_group(fields: Any) -> Group:
    """From JSON. Raises ``TypeError`` or ``ValueError``."""
    *others, tags = fields
    group = Group._make((*others, tuple((name, value) for name, value in tags)))
    if type(group.hour) is not int:
        raise TypeError("an hour is a whole number")
    return group
