"""What was found of personal data, by whatever people ask for: a question, and its answer from sums."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from gateway.accounting.redactions import DIRECTIONS, RedactionGroup
from gateway.accounting.spend import TIMES, Question, ask, time_named
from gateway.accounting.sums import Numbers
from gateway.errors import InvalidRequest

NAMES = ("tenant", "entity", "direction", "model")
_USUAL = ("tenant", "entity", "direction")
COUNT, REQUESTS = range(2)


def ask_redactions(parameters: Iterable[tuple[str, str]]) -> Question:
    """A question from query parameters; without ``group_by`` by tenant, entity and direction.

    Raises ``InvalidRequest``.
    """
    given = list(parameters)
    question = ask(given, NAMES, tags=False)
    if question.filters.get("direction", "input") not in DIRECTIONS:
        raise InvalidRequest("'direction' must be input or output.", param="direction")
    if "group_by" not in dict(given):
        question = replace(question, group_by=_USUAL)
    return question


class RedactionAnswer:
    """Adds up the sums that a question is about.

    A request counts once in each group of the answer, whatever of that group it held. What was skipped,
    blocked and failed is in no group; it follows the filters that it has a value for. What was skipped
    and failed is of no entity: it is left out where one is asked for.
    """

    def __init__(self, question: Question) -> None:
        self._question = question
        self._wanted = question.filters.get
        self._found: dict[tuple[str, ...], Numbers] = {}
        self._others: dict[str, Counter[str]] = {
            kind: Counter() for kind in ("skipped", "blocked", "failed")
        }

    def add(self, sums: Iterable[tuple[RedactionGroup, Numbers]]) -> None:
        for group, numbers in sums:
            if (
                self._question.holds(group.hour)
                and self._wanted("tenant", group.tenant) == group.tenant
                and self._wanted("model", group.model) == group.model
            ):
                self._count(group, numbers)

    def as_dict(self) -> dict[str, Any]:
        """As the admin API answers."""
        total = sum(numbers[COUNT] for numbers in self._found.values())
        others = {kind: dict(sorted(counts.items())) for kind, counts in self._others.items()}
        return {"total": total, "data": list(self._data()), **others}

    def _count(self, group: RedactionGroup, numbers: Numbers) -> None:
        requests, *counts = numbers
        seen = set()
        for (kind, name), count in zip(group.found, counts, strict=True):
            if kind in self._others:
                if self._is_asked_for(kind, name):
                    self._others[kind][name] += count
            elif self._wanted("entity", name) == name and self._wanted("direction", kind) == kind:
                key = tuple(_value(group, kind, name, wanted) for wanted in self._question.group_by)
                held = self._found.setdefault(key, [0, 0])
                held[COUNT] += count
                if key not in seen:
                    held[REQUESTS] += requests
                    seen.add(key)

    def _is_asked_for(self, kind: str, name: str) -> bool:
        """Of what is in no group."""
        if kind == "blocked":
            return self._wanted("entity", name) == name
        of_direction = kind != "failed" or self._wanted("direction", name) == name
        return of_direction and self._wanted("entity") is None

    def _data(self) -> Iterator[dict[str, Any]]:
        for key, numbers in sorted(self._found.items(), key=self._order):
            yield {
                "group": dict(zip(self._question.group_by, key, strict=True)),
                "count": numbers[COUNT],
                "requests": numbers[REQUESTS],
            }

    def _order(self, found: tuple[tuple[str, ...], Numbers]) -> tuple[Any, ...]:
        """By time, then the most first."""
        key, numbers = found
        times = [value for name, value in zip(self._question.group_by, key, strict=True) if name in TIMES]
        return times, -numbers[COUNT], -numbers[REQUESTS], key


def _value(group: RedactionGroup, kind: str, name: str, wanted: str) -> str:
    if wanted in TIMES:
        return time_named(wanted, group.hour)
    return {"tenant": group.tenant, "model": group.model, "entity": name, "direction": kind}[wanted]
