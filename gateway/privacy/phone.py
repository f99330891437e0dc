"""Phone numbers: shapes first, then what each country gives out."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from gateway.privacy.candidates import (
    CONTEXT,
    Candidate,
    context_of,
    follows_word,
    labelled_otherwise,
    unfit,
)
from gateway.privacy.normalise import Folded
from gateway.privacy.numbers import Run
from gateway.privacy.phone_rules import PhoneBook

MAX_DIGITS = 15
_LEAST_DIGITS = 7
_MAX_GROUPS = 8
_NAMES = (
    r"(?:phone|telephone|tel|mobile|cell|cellphone|call|fax|sms|text|whatsapp|signal|dial|contact|reach|"
    r"telefon|handy|mobil|anruf|rufnummer|tlf|móvil|teléfono|telefono|téléphone|portable|cellulare|numéro|llam|appel|ruf)"
)
_NEAR, _CONTEXT = re.compile(_NAMES), re.compile(r"\b" + _NAMES)
_AMERICAN = frozenset({(3, 3, 4), (10,), (3, 7), (6, 4), (1, 3, 3, 4), (11,)})
_AMERICAN_STARTS = frozenset(sizes[0] for sizes in _AMERICAN)
_DATES = re.compile(
    rb"(?:(?:19|20)[0-9]{2}[-./][0-9]{2}[-./][0-9]{2}|[0-9]{1,2}[-./][0-9]{1,2}[-./](?:19|20)?[0-9]{2})(?![0-9])"
)


class _Shape(NamedTuple):
    """A number that may end at the place ``end``: its digits, and how many each group has."""

    end: int
    digits: bytes
    sizes: tuple[int, ...]


class PhoneFinder:
    """Looks for numbers in international form, and in the national forms of ``regions`` (ISO 3166)."""

    def __init__(self, regions: Sequence[str]) -> None:
        self._book = PhoneBook()
        self._home = self._book.at_home(regions) if regions else None
        self._american = self._book.at_home(("US",)) if {"US", "CA"} & set(regions) else None

    def find(self, folded: Folded, run: Run) -> Iterator[Candidate]:
        first, last = run.groups[0][0], run.groups[-1][1]
        around = folded.text[max(0, folded.index(first) - CONTEXT) : folded.index(last)]
        hinted = _NEAR.search(around.lower()) is not None
        for position in range(len(run.groups)):
            found = self._at(folded, run, position, hinted)
            if found is not None:
                yield found

    def _at(self, folded: Folded, run: Run, position: int, hinted: bool) -> Candidate | None:
        """The longest number that begins with a group; ``hinted``: something near is called a phone."""
        codes, (start, end) = folded.codes, run.groups[position]
        before = codes[start - 1 : start]
        international = before == b"+"
        if not international:
            if not hinted and codes[start] != 48 and end - start not in _AMERICAN_STARTS:
                return None
            if before != b"(" and follows_word(codes, start):
                return None
        named: bool | None = None if hinted else False
        for shape in reversed(_shapes(codes, run, position)):
            if international:
                score = 0.95 if self._book.has(shape.digits) else 0
            else:
                if named is None:
                    named = _CONTEXT.search(context_of(folded, start)) is not None
                score = self._national(
                    shape, codes[start : shape.end], named and not _goes_on(codes, start)
                )
            if score:
                begin = _opening(codes, start, shape.end)
                if not unfit(folded, begin, shape.end):
                    other = not international and labelled_otherwise(context_of(folded, begin), phone=True)
                    return None if other else Candidate(begin, shape.end, "PHONE_NUMBER", score)
        return None

    def _national(self, shape: _Shape, spelled: bytes, named: bool) -> float:
        """The score of a number that is dialled from inside a country; 0 if it is none."""
        digits, sizes = shape.digits, shape.sizes
        if len(sizes) > 2 and _DATES.match(spelled):
            return 0
        if self._american and sizes in _AMERICAN and self._american.covers(digits):
            return 0.9 if named else 0.75 if len(sizes) > 1 else 0.3
        if named:
            return 0.85 if self._home and self._home.covers(digits) else 0
        grouped = digits[:1] == b"0" and 9 <= len(digits) <= 13 and 1 < len(sizes) < 6 and sizes[0] > 1
        return 0.6 if grouped and self._home and self._home.covers(digits) else 0


_SHORT_GROUP = re.compile(rb"(?:\A|[^0-9])[0-9]{1,4} \Z")


def _goes_on(codes: bytes, start: int) -> bool:
    """Whether a short group of digits is right before: what is called a phone begins with that one."""
    return codes[start] != 48 and _SHORT_GROUP.search(codes[max(0, start - 6) : start]) is not None


def _opening(codes: bytes, start: int, end: int) -> int:
    """Where a number begins with its first digit at ``start``: a plus and closed parentheses count."""
    begin = start - 1 if codes[start - 1 : start] == b"+" else start
    if codes[begin - 1 : begin] != b"(":
        return begin
    return begin - 1 if codes.count(b")", begin, end) > codes.count(b"(", begin, end) else begin


def _shapes(codes: bytes, run: Run, position: int) -> list[_Shape]:
    """All that may be a number and begins with a group, by the number of groups."""
    shapes: list[_Shape] = []
    sizes: tuple[int, ...] = ()
    digits = b""
    for begin, end in run.groups[position : position + _MAX_GROUPS]:
        if len(digits) + end - begin > MAX_DIGITS:
            break
        digits += codes[begin:end]
        sizes = (*sizes, end - begin)
        if len(digits) >= _LEAST_DIGITS:
            shapes.append(_Shape(end, digits, sizes))
    return shapes
