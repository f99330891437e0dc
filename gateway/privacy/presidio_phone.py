"""Phone numbers: Presidio's recogniser, asked only where a number can be, for regions that can be."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from gateway.privacy.interface import Match
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
# Words that make a phone number of plain digits.
_SPOKEN = re.compile(
    r"\b(?:(?:tele|cell|smart)?phones?|tel|telefon\w*|tele?fax|fax|mobil\w*|cell|call(?:ed|ing|back)?|dial|ring|"
    r"whatsapp|sms|text(?:ed)?|reach|handy\w*|anruf\w*|rufnummer|durchwahl|t[ée]l[ée]phone|portable|appel\w*|"
    r"joindre|tel[ée]fono|m[óo]vil|ll[áa]m\w*|celular)\b",
    re.IGNORECASE,
)
_SPOKEN_CHARS = 40
# Digits with what is written between them in a phone number; a plus or a bracket may lead.
_SPOT = r"[+(]{0,2}\p{Nd}(?:[ \t\x{a0}.()/\x{2010}-\x{2015}-]{0,3}\p{Nd}){6,}"
_LONGEST_RUN, _LONGEST_NUMBER = 17, 28
_MARGIN = 24
_WEAK_SCORE = 0.2
_ABROAD = re.compile(r"\(?(?:\+|00)")
_TRUNK = re.compile(r"\(?0\)?[ -]?[1-9]")
_TRUNK_INSIDE = re.compile(r"(?<!\d)0\)?[ -]?[1-9]")
# How numbers are written at home where no 0 leads them; what is written otherwise is too weak to count.
_SHAPES = {
    "US": re.compile(r"(?:1[-. ])?(?:\([2-9]\d\d\)[ -]{0,2}|[2-9]\d\d[-. ])[2-9]\d\d[-. ]\d{4}(?!\d)"),
    "ES": re.compile(r"[6-9]\d\d[ .-]?(?:\d{3}[ .-]\d{3}|\d\d[ .-]\d\d[ .-]\d\d)(?!\d)"),
    "PL": re.compile(r"\d{3}[ -]\d{3}[ -]\d{3}(?!\d)"),
}

_NO_TRUNK = frozenset({"IT", "PT", "BR"})
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
    spots = trigger(_SPOT)

    def run(text: str) -> list[Match]:
        return [
            match
            for spot in spots.finditer(text)
            for match in _at(text, spot.start(), spot.end(), recognisers, regions)
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
    """The numbers in the candidate ``start``..``end``; plain digits need a word that speaks of a phone.

    With such a word, or a country code, a number need only be possible: some that are in use, or stand in
    for one, are in no numbering plan.
    """
    written = text[start:end]
    plain, spoken_of = written.isdigit(), _spoken_of(text, start)
    if plain and (len(written) > _LONGEST_RUN or not spoken_of):
        return
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
    elif _ABROAD.match(written):
        yield regions[0]
    else:
        trunk = _TRUNK.match(written) is not None
        for region in regions:
            shape = _SHAPES.get(region)
            if shape.match(written) if shape else trunk or region in _NO_TRUNK:
                yield region


def _analysed(recogniser: Any, part: str) -> list[Match]:
    results = recogniser.analyze(part, ["PHONE_NUMBER"])
    return [Match(found.start, found.end, "PHONE_NUMBER", found.score) for found in results]


def _spoken_of(text: str, start: int) -> bool:
    return _SPOKEN.search(text, max(0, start - _SPOKEN_CHARS), start) is not None


def _weighed(written: str, match: Match, regions: tuple[str, ...]) -> Match:
    shaped = any(shape.match(written) for region, shape in _SHAPES.items() if region in regions)
    if _ABROAD.match(written) or (not written.strip("()").isdigit() and (shaped or _TRUNK.match(written))):
        return match
    return Match(match.start, match.end, match.entity, _WEAK_SCORE)
