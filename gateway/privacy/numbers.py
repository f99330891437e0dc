"""Recognisers of numbers in groups: cards and US tax numbers. Phones have a module of their own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from gateway.privacy.candidates import Candidate, context_of, unfit
from gateway.privacy.labels import labelled_otherwise, named_phone
from gateway.privacy.normalise import Folded
from gateway.privacy.validators import is_card, is_itin, is_ssn

_GROUP = re.compile(rb"[0-9]+")
_CARD_LAYOUTS = frozenset(
    {(4, 4, 4, 4), (4, 4, 4, 4, 3), (4, 6, 5), (4, 6, 4), (4, 4, 4, 1), (6, 13), (8, 8), (4, 4, 5)}
)
_SSN_LAYOUT = (3, 2, 4)
_SSN_CHARS = 11
_BETWEEN = (b" ", b"  ", b"-", b".")
_FIRST_SIZES = frozenset({3, 4, 6, 8})
_SSN_CONTEXT = re.compile(r"\b(?:ssn|social|security|tax|itin|tin|taxpayer)")
_CARD_CONTEXT = re.compile(r"\b(?:card|credit|debit|visa|mastercard|amex|pan|kreditkarte|carte|tarjeta)")


class Run(NamedTuple):
    """Digits with at most three separators between any two; ``groups``: where its digit groups are."""

    groups: list[tuple[int, int]]

    @classmethod
    def of(cls, codes: bytes, start: int, end: int) -> Run:
        return cls([match.span() for match in _GROUP.finditer(codes, start, end)])


def find_cards(folded: Folded, run: Run) -> Iterator[Candidate]:
    if run.groups[-1][1] - run.groups[0][0] < 13:
        return
    for start, end, digits in _grouped(folded.codes, run, _CARD_LAYOUTS, range(13, 20)):
        if not is_card(digits) or unfit(folded, start, end):
            continue
        context = context_of(folded, start)
        if len(digits) == end - start and labelled_otherwise(context) and not _CARD_CONTEXT.search(context):
            score = 0.3
        elif len(digits) == end - start == 13 and not _CARD_CONTEXT.search(context):
            score = 0.3  # milliseconds since 1970, article numbers
        else:
            score = 1.0
        yield Candidate(start, end, "CREDIT_CARD", score)


def find_tax_numbers(folded: Folded, run: Run) -> Iterator[Candidate]:
    """US_SSN and US_ITIN."""
    for start, end, digits in _grouped(folded.codes, run, {_SSN_LAYOUT}, (9,)):
        entity = "US_SSN" if is_ssn(digits) else "US_ITIN" if is_itin(digits) else None
        if entity is None or unfit(folded, start, end):
            continue
        context = context_of(folded, start)
        if _SSN_CONTEXT.search(context):
            score = 0.95
        elif labelled_otherwise(context):
            score = 0.1
        elif is_written_ssn(folded.codes[start:end]) and named_phone(context, close=True):
            score = 0.6
        else:
            score = {9: 0.05}.get(end - start, 0.6 if folded.codes[start + 3] == 45 else 0.3)
        yield Candidate(start, end, entity, score)


def is_written_ssn(written: bytes) -> bool:
    """Whether ``written`` has the form of an SSN, valid and with separators, which no phone number has that
    is dialled without a 0; with dashes none at all."""
    separators = written[3:4] + written[6:7]
    if len(written) != _SSN_CHARS or separators not in (b"--", b"..", b"  "):
        return False
    digits = written.replace(separators[:1], b"")
    return digits.isdigit() and is_ssn(digits) and (separators == b"--" or written[:1] != b"0")


def _grouped(
    codes: bytes,
    run: Run,
    layouts: set[tuple[int, ...]] | frozenset[tuple[int, ...]],
    whole: range | tuple[int, ...],
) -> Iterator[tuple[int, int, bytes]]:
    """Digits in one group of a length in ``whole``, or in groups by a layout with the same separator,
    which may be two blanks."""
    groups = run.groups
    for position, (start, end) in enumerate(groups):
        size = end - start
        if size in whole:
            yield start, end, codes[start:end]
        if size not in _FIRST_SIZES or position + 1 == len(groups):
            continue
        separator = codes[end : end + 1]
        sizes: tuple[int, ...] = (size,)
        for begin, stop in groups[position + 1 : position + 5]:
            between = codes[end:begin]
            if between not in _BETWEEN or between[:1] != separator:
                break
            end, sizes = stop, (*sizes, stop - begin)
            if sizes in layouts:
                yield start, end, codes[start:end].replace(separator, b"")
