"""Phone numbers: shapes first, then what each country gives out."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from gateway.privacy.candidates import (
    CONTEXT,
    Candidate,
    context_of,
    follows_word,
    unfit,
)
from gateway.privacy.labels import labelled_otherwise, may_be_named, named_phone
from gateway.privacy.normalise import Folded
from gateway.privacy.numbers import Run, is_written_ssn
from gateway.privacy.phone_rules import PhoneBook

MAX_DIGITS = 15
_LEAST_DIGITS = 7
_MAX_GROUPS = 8
_PLAIN_DIGITS, _MANY_DIGITS = 10, 12
_AMERICAN = frozenset({(3, 3, 4), (10,), (3, 7), (6, 4), (1, 3, 3, 4), (11,)})
_AMERICAN_STARTS = frozenset(sizes[0] for sizes in _AMERICAN)
_DATES = re.compile(
    rb"(?:(?:19|20)[0-9]{2}[-./][0-9]{2}[-./][0-9]{2}|[0-9]{1,2}[-./][0-9]{1,2}[-./](?:19|20)?[0-9]{2})(?![0-9])"
)
_QUAD = re.compile(rb"[0-9]{1,3}(?:\.[0-9]{1,3}){3}(?![0-9.])")
_PAIRS = (2,) * 5
_POSTCODE = (5, 4)
_LOCAL = (3, 4)
"""In America, inside of an area."""
_LEAST_LISTED = 4
_LIST_MARK = re.compile(rb"[0-9]{1,2}\)")


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
        untrunked = self._book.without_trunk(regions)
        self._untrunked = self._book.at_home(untrunked) if untrunked else None
        self._mobiles = self._book.at_home(regions, ("mobile",)) if regions else None

    def find(self, folded: Folded, run: Run) -> Iterator[Candidate]:
        first, last = run.groups[0][0], run.groups[-1][1]
        around = folded.text[max(0, folded.index(first) - CONTEXT) : folded.index(last)]
        hinted = may_be_named(around.lower())
        for position in range(len(run.groups)):
            found = self._at(folded, run, position, hinted)
            if found is not None:
                yield found

    def _at(self, folded: Folded, run: Run, position: int, hinted: bool) -> Candidate | None:
        """The longest number that begins with a group; ``hinted``: something near is called a phone."""
        codes, (start, end) = folded.codes, run.groups[position]
        before = codes[start - 1 : start]
        international = before == b"+" or codes[max(0, start - 3) : start].lower() == b"%2b"
        if not international:
            if not hinted and codes[start] != 48 and end - start not in _AMERICAN_STARTS:
                return None
            if before != b"(" and follows_word(codes, start):
                return None
        context = context_of(folded, start) if hinted and not international else ""
        for shape in reversed(_shapes(codes, run, position)):
            if not _closed(codes, start, shape.end) or is_written_ssn(codes[start : shape.end]):
                continue
            if international:
                score = self._international(shape.digits)
            else:
                named = bool(context) and _named(context, shape) and not _goes_on(codes, start)
                if not named and _continues(codes, start):
                    continue
                score = self._national(shape, codes[start : shape.end], named)
                if not score and named:
                    score = self._unplanned(shape, named_phone(context, close=True))
            if score:
                begin = _opening(codes, start, shape.end)
                end_of_word = shape.end + _extension(codes, shape.end)
                if not unfit(folded, begin, end_of_word):
                    other = not international and labelled_otherwise(context_of(folded, begin), phone=True)
                    return None if other else Candidate(begin, shape.end, "PHONE_NUMBER", score)
        return None

    def _international(self, digits: bytes) -> float:
        """By what the country gives out; as many digits as it has are nearly as good behind a plus."""
        if self._book.has(digits):
            return 0.95
        return 0.7 if len(digits) >= _PLAIN_DIGITS and self._book.may_have(digits) else 0

    def _national(self, shape: _Shape, spelled: bytes, named: bool) -> float:
        """The score of a number that is dialled from inside a country; 0 if it is none."""
        digits, sizes = shape.digits, shape.sizes
        if len(sizes) > 2 and sizes != _PAIRS and _DATES.match(spelled):
            return 0
        if len(sizes) > 2 and (_QUAD.match(spelled) or (not named and _ascends(digits, sizes))):
            return 0
        if (named or len(sizes) > 1) and self._abroad(digits):
            return 0.85
        if self._american and sizes in _AMERICAN and self._american.covers(digits):
            return 0.9 if named else 0.75 if len(sizes) > 1 else 0.3
        if self._home is None or self._mobiles is None:
            return 0
        if named:
            return 0.85 if self._is_dialled(digits, sizes) else 0
        if len(sizes) == 1:
            mobile = digits[:1] == b"0" and len(digits) > _PLAIN_DIGITS and self._mobiles.covers(digits)
            return 0.45 if mobile else 0
        if sizes == _POSTCODE:
            return 0
        grouped = (
            digits[:1] == b"0" != digits[1:2]
            and 9 <= len(digits) <= 13
            and 1 < len(sizes) < 6
            and sizes[0] > 1
        )
        return 0.6 if grouped and self._home.covers(digits) else 0

    def _is_dialled(self, digits: bytes, sizes: tuple[int, ...]) -> bool:
        """Whether somebody at home dials ``digits``: behind a 0, but where countries do without."""
        if digits[:1] == b"0":
            return self._home is not None and self._home.covers(digits)
        return self._untrunked is not None and sizes[0] > 1 and self._untrunked.covers(digits)

    def _unplanned(self, shape: _Shape, close: bool) -> float:
        """Of what is called a phone, ``close`` before: a number in no plan that has the form of one."""
        digits, sizes = shape.digits, shape.sizes
        if digits[:1] == b"0":
            return 0.5 if digits[1:2] != b"0" and 10 <= len(digits) <= 12 else 0
        if not close or self._home is None or 1 in sizes:
            return 0
        if sizes == _LOCAL and self._american is not None:
            return 0.5 if digits[:1] >= b"2" else 0
        if len(sizes) == 1:
            return 0.6 if len(digits) > _PLAIN_DIGITS and self._book.has(digits) else 0
        return 0.5 if 9 <= len(digits) <= 12 and self._home.covers(digits) else 0

    def _abroad(self, digits: bytes) -> bool:
        """Whether a number begins with what is dialled for other countries: 00, from America 011."""
        return (digits[:2] == b"00" and self._book.has(digits[2:])) or (
            self._american is not None and digits[:3] == b"011" and self._book.has(digits[3:])
        )


def _named(context: str, shape: _Shape) -> bool:
    """Whether a phone is spoken of; of a few plain digits, right before them."""
    close = len(shape.sizes) == 1 and not _PLAIN_DIGITS <= len(shape.digits) < _MANY_DIGITS
    return named_phone(context, close=close)


def _ascends(digits: bytes, sizes: tuple[int, ...]) -> bool:
    """Four groups or more of the same length, each larger than the one before: a list."""
    size = sizes[0]
    if len(sizes) < _LEAST_LISTED or sizes != (size,) * len(sizes):
        return False
    groups = [digits[place : place + size] for place in range(0, len(digits), size)]
    return all(low < high for low, high in pairwise(groups))


_SHORT_GROUP = re.compile(rb"(?:\A|[^0-9])[0-9]{1,4} \Z")


def _goes_on(codes: bytes, start: int) -> bool:
    """Whether a short group of digits is right before: what is called a phone begins with that one."""
    return codes[start] != 48 and _SHORT_GROUP.search(codes[max(0, start - 6) : start]) is not None


_EXTENSION = re.compile(rb"[xX][0-9]{1,5}")


def _extension(codes: bytes, end: int) -> int:
    """The length of what is dialled inside of a house, written like ``x123``."""
    match = _EXTENSION.match(codes, end)
    return len(match[0]) if match else 0


_ONE_BEFORE = re.compile(rb"(?:(?:\A|[^0-9 ./()-])[ (]{0,2}[0-9]{1,4}|[0-9]{4} [0-9]{4}) \Z")


def _continues(codes: bytes, start: int) -> bool:
    """Whether one group of digits stands before, as in longer numbers that no one calls a phone's."""
    return _ONE_BEFORE.search(codes[max(0, start - 10) : start]) is not None


def _closed(codes: bytes, start: int, end: int) -> bool:
    """Whether no parenthesis is left open, and the first group is no mark of a list, as in ``1) 555…``."""
    closing = codes.count(b")", start, end) - codes.count(b"(", start, end)
    opened = codes[max(0, start - 2) : start].endswith((b"(", b"(+"))
    return closing >= 0 and not (closing and not opened and _LIST_MARK.match(codes, start))


def _opening(codes: bytes, start: int, end: int) -> int:
    """Where a number begins with its first digit at ``start``: a plus and closed parentheses count."""
    begin = start - 1 if codes[start - 1 : start] == b"+" else start
    if codes[max(0, start - 3) : start].lower() == b"%2b":
        return start - 3
    if codes[begin - 1 : begin] != b"(":
        return begin
    return begin - 1 if codes.count(b")", begin, end) > codes.count(b"(", begin, end) else begin


def _begins_another(codes: bytes, begin: int) -> bool:
    """Whether a group behind a slash begins a number of its own: with what is dialled first."""
    return codes[begin] == 48 and codes[max(0, begin - 2) : begin] == b"/ "


def _shapes(codes: bytes, run: Run, position: int) -> list[_Shape]:
    """All that may be a number and begins with a group, by the number of groups."""
    shapes: list[_Shape] = []
    sizes: tuple[int, ...] = ()
    digits = b""
    for begin, end in run.groups[position : position + _MAX_GROUPS]:
        if len(digits) + end - begin > MAX_DIGITS or (digits and _begins_another(codes, begin)):
            break
        digits += codes[begin:end]
        sizes = (*sizes, end - begin)
        if len(digits) >= _LEAST_DIGITS:
            shapes.append(_Shape(end, digits, sizes))
    return shapes
