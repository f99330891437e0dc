"""What was spent, by whatever people ask for: a question, and its answer from sums."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, timezone
from typing import Any

from gateway.accounting.money import format_usd
from gateway.accounting.sums import (
    CHARGED,
    COST,
    HOUR_S,
    INPUT,
    OUTPUT,
    REQUESTS,
    Group,
    Numbers,
    add_to,
    day_of,
)
from gateway.errors import InvalidRequest

NAMES = ("tenant", "key", "feature", "user", "model", "provider", "deployment")
TIMES = ("day", "hour")
PERIOD = ("from", "to")
TAG = "tag:"
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_POSITIONS = {name: Group._fields.index(name) for name in NAMES}
_MOST_GROUP_BY = 8


@dataclass(frozen=True, slots=True)
class Question:
    """``from_s`` and ``to_s``: full hours (epoch seconds), the latter excluded; None: unbounded.

    ``filters``: wanted values by name (``tag:…`` for a tag). ``group_by``: names, in the answer's order.
    """

    filters: dict[str, str] = field(default_factory=dict)
    group_by: tuple[str, ...] = ()
    from_s: int | None = None
    to_s: int | None = None

    def holds(self, hour: int) -> bool:
        return (self.from_s is None or hour >= self.from_s) and (self.to_s is None or hour < self.to_s)


def ask(
    parameters: Iterable[tuple[str, str]], names: tuple[str, ...] = NAMES, *, tags: bool = True
) -> Question:
    """A question from query parameters; ``names`` and, where there are ``tags``, these may be asked for.

    Raises ``InvalidRequest``.
    """
    filters: dict[str, str] = {}
    others: dict[str, str] = {}
    for name, value in parameters:
        if name in names or (tags and name.startswith(TAG) and name != TAG):
            kept = filters
        elif name in (*PERIOD, "group_by"):
            kept = others
        else:
            known = ", ".join((*names, *((f"{TAG}NAME",) if tags else ()), *PERIOD, "group_by"))
            raise InvalidRequest(f"{name[:80]!r} is not known here; use {known}.", param=name[:80])
        if name in kept:
            raise InvalidRequest(f"{name[:80]!r} is given twice; give it once.", param=name[:80])
        kept[name] = value
    from_s, to_s = _time(others, "from"), _time(others, "to")
    if from_s is not None and to_s is not None and from_s >= to_s:
        raise InvalidRequest("'from' must be before 'to'.", param="from")
    return Question(filters, _group_by(others.get("group_by", ""), names, tags), from_s, to_s)


def _group_by(text: str, known: tuple[str, ...], tags: bool) -> tuple[str, ...]:
    names = [_dimension(name.strip(), known, tags) for name in text.split(",") if name.strip()]
    if len(names) > _MOST_GROUP_BY:
        raise InvalidRequest(f"'group_by' takes at most {_MOST_GROUP_BY} names.", param="group_by")
    return tuple(dict.fromkeys(names))


def _dimension(name: str, names: tuple[str, ...], tags: bool) -> str:
    if name in names or name in TIMES:
        return name
    if not tags or name in (*PERIOD, "group_by", TAG) or len(name) > 128:
        known = ", ".join((*names, *TIMES)) + (" or the name of a tag" if tags else "")
        raise InvalidRequest(f"'group_by' cannot be {name[:80]!r}; use {known}.", param="group_by")
    return name if name.startswith(TAG) else TAG + name


def _time(given: Mapping[str, str], name: str) -> int | None:
    """Epoch seconds of a full hour: a time within an hour stands for all of it, a date that ends the
    period for the whole day."""
    text = given.get(name, "").strip()
    if not text:
        return None
    try:
        if _DATE.fullmatch(text):
            day = date.fromisoformat(text) + timedelta(days=1 if name == "to" else 0)
            return int(datetime(day.year, day.month, day.day, tzinfo=timezone.utc).timestamp())
        moment = datetime.fromisoformat(text.replace(" ", "+"))  # a + in a query is a space
        if moment.tzinfo is None:
            raise ValueError("a time without a zone")
        seconds = moment.timestamp()
    except (ValueError, OverflowError):
        raise InvalidRequest(
            f"{name!r} must be a date or an RFC 3339 time, such as 2026-11-20 or 2026-11-20T15:00:00Z.",
            param=name,
        ) from None
    return int(-(-seconds // HOUR_S) if name == "to" else seconds // HOUR_S) * HOUR_S


class Answer:
    """Adds up the sums that a question is about."""

    def __init__(self, question: Question) -> None:
        self._question = question
        self._filters = [(_POSITIONS.get(name), name, value) for name, value in question.filters.items()]
        self._found: dict[tuple[str | None, ...], Numbers] = {}

    def add(self, sums: Iterable[tuple[Group, Numbers]]) -> None:
        question = self._question
        for group, numbers in sums:
            if question.holds(group.hour) and self._wanted(group):
                key = tuple(_value(group, name) for name in question.group_by)
                held = self._found.get(key)
                if held is None:
                    self._found[key] = numbers.copy()
                else:
                    add_to(held, numbers)

    def as_dict(self) -> dict[str, Any]:
        """As the admin API answers."""
        total = sum(numbers[COST] for numbers in self._found.values())
        return {"total_usd": format_usd(total), "data": list(self._data())}

    def _data(self) -> Iterator[dict[str, Any]]:
        names = self._question.group_by
        for key, numbers in sorted(self._found.items(), key=self._order):
            yield {
                "group": dict(zip(map(_shown, names), key, strict=True)),
                "cost_usd": format_usd(numbers[COST]),
                "charged_usd": format_usd(numbers[CHARGED]),
                "requests": numbers[REQUESTS],
                "input_tokens": numbers[INPUT],
                "output_tokens": numbers[OUTPUT],
            }

    def _order(self, found: tuple[tuple[str | None, ...], Numbers]) -> tuple[Any, ...]:
        """By time, then the dearest first."""
        key, numbers = found
        named = zip(self._question.group_by, key, strict=True)
        times = [value or "" for name, value in named if name in TIMES]
        return times, -numbers[COST], -numbers[REQUESTS], [value or "" for value in key]

    def _wanted(self, group: Group) -> bool:
        for position, name, value in self._filters:
            held = _tag(group, name) if position is None else group[position]
            if (held or "") != value:
                return False
        return True


def _value(group: Group, name: str) -> str | None:
    position = _POSITIONS.get(name)
    if position is not None:
        return group[position]  # type: ignore[return-value]
    return time_named(name, group.hour) if name in TIMES else _tag(group, name)


def time_named(name: str, hour: int) -> str:
    """The ``day`` or the ``hour`` that begins then (epoch seconds)."""
    day = day_of(hour)
    return day if name == "day" else f"{day}T{hour // HOUR_S % 24:02d}:00:00Z"


def _shown(name: str) -> str:
    """A tag's bare name, unless that means something else."""
    bare = name.removeprefix(TAG)
    return name if bare in NAMES or bare in TIMES else bare


def _tag(group: Group, name: str) -> str | None:
    wanted = name.removeprefix(TAG)
    return next((value for tag, value in group.tags if tag == wanted), None)
