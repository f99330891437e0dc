"""What was found of personal data, summed up: by hour, tenant, model, and all that one request held.

A request counts in exactly one group, so that any choice of entities has its number of requests.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

DIRECTIONS = ("input", "output")
_COUNTED = (*DIRECTIONS, "skipped")
FIELD = "redactions"
"""Of an ``exchange`` row; absent where nothing was found, skipped or failed."""
NEEDLE = b'"redactions":{'
"""In the text of every row that has the field."""
MOST_GROUPS = 5_000
"""In one day file. What stands in a request together is the clients' choice, so there must be a bound."""


class RedactionGroup(NamedTuple):
    """``hour``: as in ``sums.Group``. ``found``: sorted pairs of what it is (``input``, ``output``,
    ``skipped``, ``blocked``, ``failed``) and which (an entity, a kind of part, a direction).

    Its numbers are the requests, and then how often each of ``found`` was there.
    """

    hour: int
    tenant: str
    model: str
    found: tuple[tuple[str, str], ...]


def redactions_of(row: Mapping[str, Any], hour: int) -> tuple[RedactionGroup, list[int]]:
    """The group and the numbers of a row that has the field. ``hour``: that of its other sums.

    Raises ``KeyError``, ``TypeError``, ``ValueError`` or ``AttributeError`` for a row that is no such row.
    """
    counts = dict(_found(row[FIELD]))
    found = tuple(sorted(counts))
    return RedactionGroup(hour, row["tenant"], row["model"], found), [1, *(counts[one] for one in found)]


def _found(redactions: Mapping[str, Any]) -> Iterator[tuple[tuple[str, str], int]]:
    for kind in _COUNTED:
        for name, count in redactions.get(kind, {}).items():
            yield (kind, name), int(count)
    if blocked := redactions.get("blocked"):
        yield ("blocked", str(blocked)), 1
    for direction in redactions.get("failed", ()):
        yield ("failed", str(direction)), 1


def apart(group: RedactionGroup, numbers: list[int]) -> Iterator[tuple[RedactionGroup, list[int]]]:
    """A group for each that was found: counts stay exact, a request then counts in several."""
    for one, count in zip(group.found, numbers[1:], strict=True):
        yield group._replace(found=(one,)), [numbers[0], count]


def decode_redactions(entries: Any) -> dict[RedactionGroup, list[int]]:
    """From JSON; numbers by group. Raises ``TypeError`` or ``ValueError``."""
    return {decode_redaction_group(fields): numbers for fields, numbers in entries}


def decode_redaction_group(fields: Any) -> RedactionGroup:
    """From JSON. Raises ``TypeError`` or ``ValueError``."""
    hour, tenant, model, found = fields
    if type(hour) is not int:
        raise TypeError("an hour is a whole number")
    return RedactionGroup(hour, tenant, model, tuple((kind, name) for kind, name in found))
