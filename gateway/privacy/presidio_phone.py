"""Phone numbers: Presidio's recogniser, asked only where a number can be, for regions that can be."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from gateway.privacy.interface import Match
from gateway.privacy.labels import named_phone
from gateway.privacy.linear import Linear
from gateway.privacy.presidio_finders import Finder, trigger, within
from gateway.privacy.presidio_pieces import windows
from gateway.privacy.presidio_repairs import phone_number

REGIONS = {
    "en": ("US", "GB"),
    "de": ("DE",),
    "fr": ("FR",),
    "es": ("ES",),
    "it": ("IT",),
    "pt": ("PT", "BR"),
    "nl": ("NL",),
    "pl": ("PL",),
    "he": ("IL",),
    "hi": ("IN",),
}
_SPOKEN_CHARS = 40
_PLAIN_DIGITS, _MANY_DIGITS = 10, 12
# Digits with what is written between them in a phone number; a plus or a bracket may lead.
_SPOT = r"(?:%2[Bb]|[+(]{0,2})\p{Nd}(?:[ \t\x{a0}.()/\x{2010}-\x{2015}-]{0,3}\p{Nd}){6,}"
_LONGEST_RUN, _LONGEST_NUMBER = 17, 28
_MARGIN = 24
_WEAK_SCORE, _LOCAL_SCORE = 0.2, 0.5
_LOCAL = re.compile(r"[2-9]\d\d[-. ]\d{4}")
_ABROAD = re.compile(r"\(?(?:\+|00|%2[Bb])")
_TRUNK = re.compile(r"\(?0\)?[ -]?[1-9]")
_TRUNK_INSIDE = re.compile(r"(?<!\d)0\)?[ -]?[1-9]")
# How numbers are written at home where no 0 leads them; what is written otherwise is too weak to count.
_SHAPES = {
    "US": re.compile(
        r"(?:1[-. ])?(?:\([2-9]\d\d\)[ -]{0,2}[2-9]\d\d[-. ]?|\(?[2-9]\d\d[-. /][2-9]\d\d[-. ])\d{4}(?!\d)"
    ),
    "ES": re.compile(
        r"[6-9]\d\d[ .-]?(?:\d{3}[ .-]\d{3}|\d\d[ .-]\d\d[ .-]\d\d)(?!\d)|"
        r"[89]\d[ .-]\d{3}[ .-]\d\d[ .-]\d\d(?!\d)"
    ),
    "IN": re.compile(r"(?:[6-9]\d{4}[ -]?\d{5}|1[89]00[ -]?\d{3}[ -]?\d{3,4})(?!\d)"),
    "PL": re.compile(r"\d{3}[ -]\d{3}[ -]\d{3}(?!\d)"),
}

_NO_ABROAD_00 = frozenset({"US", "CA"})
_NO_TRUNK = frozenset({"IT", "PT", "BR"})
_NO_BRACKETS = {ord("["): " ", ord("]"): " "}
_VALID, _POSSIBLE = 1, 0

_Recognisers = Mapping[tuple[str, int], Any]


def phone_finder(kind: Callable[..., Any], languages: tuple[str, ...]) -> Finder:
    """A finder of phone numbers of the regions where ``languages`` are spoken, and of any with a +.

    ``kind``: Presidio's class; one of it is built for each region.
    """
    named = tuple(dict.fromkeys(region for language in languages for region in REGIONS.get(language, ())))
    regions = named or ("US",)
    recognisers = {
        (region, leniency): kind(supported_regions=(region,), leniency=leniency)
        for region in regions
        for leniency in (_VALID, _POSSIBLE)
    }
    from gateway.privacy.phone_rules import PhoneBook

    mobiles = PhoneBook().at_home(regions, ("mobile",))
    spots = trigger(_SPOT)

    def run(text: str) -> list[Match]:
        return [
            match
            for spot in spots.finditer(text)
            for match in _at(text, spot.start(), spot.end(), recognisers, regions)
            if _worth(text, spot.start(), spot.end(), mobiles)
        ]

    return Finder(
        name=kind.__name__,
        entities=frozenset({"PHONE_NUMBER"}),
        run=run,
        language=languages[0],
        repair=phone_number,
    )


def _at(
    text: str, start: int, end: int, recognisers: _Recognisers, regions: tuple[str, ...]
) -> Iterator[Match]:
    """The numbers in the candidate ``start``..``end``.

    With a word that speaks of a phone, or a country code, a number need only be possible: some that are in
    use, or stand in for one, are in no numbering plan.
    """
    written = text[start:end]
    plain, spoken_of = written.isdigit(), named_phone(_before(text, start))
    if "US" in regions and _LOCAL.fullmatch(written) and named_phone(_before(text, start), close=True):
        yield Match(start, end, "PHONE_NUMBER", _LOCAL_SCORE)
    sure = spoken_of or _ABROAD.match(written) is not None
    leniency = _POSSIBLE if sure and len(written) <= _LONGEST_NUMBER else _VALID
    (window,) = windows(text, [(start, end)], _MARGIN)
    for region in _regions(written, regions):
        recogniser = recognisers[region, leniency]
        for match in within(window, text, partial(_analysed, recogniser)):
            if match.start < end and match.end > start:
                yield match if plain else _weighed(text[match.start : match.end], match, regions)


def _regions(written: str, regions: tuple[str, ...]) -> Iterator[str]:
    """Which regions can read ``written``: one is enough for a number with its country code."""
    if written.isdigit():
        yield from regions
    elif len(written) > _LONGEST_NUMBER:
        trunk = "+" in written or _TRUNK_INSIDE.search(written) is not None
        for region in regions:
            shape = _SHAPES.get(region)
            if trunk or region in _NO_TRUNK or (shape and shape.search(written)):
                yield region
    elif written.startswith("00"):
        yield next((region for region in regions if region not in _NO_ABROAD_00), regions[0])
    elif _ABROAD.match(written):
        yield regions[0]
    else:
        trunk = _TRUNK.match(written) is not None
        for region in regions:
            shape = _SHAPES.get(region)
            if shape.match(written) if shape else trunk or region in _NO_TRUNK:
                yield region


def _analysed(recogniser: Any, part: str) -> list[Match]:
    readable = part.replace("%2B", "  +").replace("%2b", "  +").translate(_NO_BRACKETS)
    results = recogniser.analyze(readable, ["PHONE_NUMBER"])
    return [
        Match(
            found.start - 2 * part.startswith(("%2B", "%2b"), found.start - 2),
            found.end,
            "PHONE_NUMBER",
            found.score,
        )
        for found in results
    ]


def _worth(text: str, start: int, end: int, mobiles: Linear) -> bool:
    """Plain digits need a word that speaks of a phone, few of them right before, or look like a mobile."""
    written = text[start:end]
    if not written.isdigit():
        return True
    if len(written) > _LONGEST_RUN:
        return False
    if (
        written[0] == "0"
        and len(written) > _PLAIN_DIGITS
        and written.isascii()
        and mobiles.covers(written.encode())
    ):
        return True
    close = not _PLAIN_DIGITS <= len(written) < _MANY_DIGITS
    return named_phone(_before(text, start), close=close)


def _before(text: str, start: int) -> str:
    return text[max(0, start - _SPOKEN_CHARS) : start].lower()


def _weighed(written: str, match: Match, regions: tuple[str, ...]) -> Match:
    shaped = any(shape.match(written) for region, shape in _SHAPES.items() if region in regions)
    if _ABROAD.match(written) or (not written.strip("()").isdigit() and (shaped or _TRUNK.match(written))):
        return match
    return Match(match.start, match.end, match.entity, _WEAK_SCORE)
