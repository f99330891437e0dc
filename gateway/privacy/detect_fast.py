"""The fast detector: one linear pass that says which kinds may be there, then recognisers for those."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from gateway.privacy import credentials, tokens
from gateway.privacy.candidates import Candidate, joined
from gateway.privacy.interface import Match
from gateway.privacy.linear import Gate, Linear
from gateway.privacy.normalise import Folded, fold
from gateway.privacy.numbers import Run, find_cards, find_tax_numbers
from gateway.privacy.phone import PhoneFinder
from gateway.privacy.words import BREAKS, AllowList, DenyList

REACH = 160
"""Characters; a number is at most 60, what it is called stands in the 40 before it."""

_NUMBER_REACH = 72
_NEAR_CHARS = 1024
_SOLID = bytes(code for code in range(256) if code not in BREAKS)
_SEPARATORS = b" -./()"
_IBAN_CODES = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789 -"
_IBAN_START = re.compile(rb"[A-Za-z]{2}[0-9]{2}")
_NUMBERS = ("CREDIT_CARD", "US_SSN", "US_ITIN", "PHONE_NUMBER")
_RUN = Linear(rb"[0-9](?:[ \-./()]{0,3}[0-9]){6,}")

Finder = Callable[[Folded], Iterable[Candidate]]
_ADDRESS_GATE = (
    rb"[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]|[0-9A-Fa-f]::|::[0-9A-Fa-f]|"
    rb"[0-9A-Fa-f]{1,4}:[0-9A-Fa-f]{1,4}:[0-9A-Fa-f]{1,4}:"
)
_FINDERS: dict[str, tuple[bytes, Finder]] = {
    "EMAIL_ADDRESS": (rb"@|%40|&#0{0,4}64;|&#[xX]0{0,4}40;|&commat;|\\u0040", tokens.find_emails),
    "IP_ADDRESS": (_ADDRESS_GATE, tokens.find_addresses),
    "MAC_ADDRESS": (
        rb"(?:[0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}|[0-9A-Fa-f]{4}\.[0-9A-Fa-f]{4}\.[0-9A-Fa-f]{4}",
        tokens.find_devices,
    ),
    "CRYPTO": (rb"0x[0-9a-fA-F]{40}|(?:[bB][cC]1|[13])[a-zA-Z0-9]{24}", tokens.find_coins),
    "IBAN_CODE": (
        rb"[A-Za-z]{2}[0-9]{2}[ -]?[A-Za-z0-9][ -]?[A-Za-z0-9]{3}[ -]?[A-Za-z0-9]{3}",
        tokens.find_ibans,
    ),
    "URL": (rb"[hH][tT][tT][pP][sS]?://|[wW][wW][wW]\.", tokens.find_urls),
    "API_KEY": (credentials.API_KEY_GATE, credentials.find_api_keys),
    "JWT": (credentials.JWT_GATE, credentials.find_jwts),
    "PRIVATE_KEY": (credentials.PEM_GATE, credentials.find_private_keys),
}
SUPPORTED = frozenset(_FINDERS) | frozenset(_NUMBERS) | {"DENY_LIST"}
DEFAULT_REGIONS = ("US", "GB", "DE", "FR", "IN")


@dataclass(frozen=True, slots=True)
class DetectionPolicy:
    """What is looked for. ``entities`` of ``SUPPORTED``; a match needs at least ``threshold`` (0 to 1);
    ``allow`` and ``allow_patterns`` are values that do not count, ``deny`` words that always do;
    ``phone_regions`` are those whose national numbers are known."""

    entities: frozenset[str]
    threshold: float = 0.4
    allow: tuple[str, ...] = ()
    allow_patterns: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    phone_regions: tuple[str, ...] = field(default=DEFAULT_REGIONS)


class FastDetector:
    """A ``Detector``. Raises ``ValueError`` for an entity or a pattern that it cannot do."""

    reach = REACH

    def __init__(self, policy: DetectionPolicy) -> None:
        unknown = policy.entities - SUPPORTED
        if unknown:
            raise ValueError(f"no recogniser for {', '.join(sorted(unknown))}")
        deny = tuple(word for word in policy.deny if word.strip())
        self.entities = policy.entities | ({"DENY_LIST"} if deny else frozenset())
        self._threshold = policy.threshold
        self._allow = AllowList(policy.allow, policy.allow_patterns)
        self._deny = DenyList(deny) if deny else None
        self._phones = PhoneFinder(policy.phone_regions) if "PHONE_NUMBER" in policy.entities else None
        self._numeric = bool(policy.entities & set(_NUMBERS))
        self._spaced = self._numeric or "IBAN_CODE" in policy.entities
        gated = list(self._gated())
        self._finders = [finder for _, finder in gated]
        self._gate = Gate([pattern for pattern, _ in gated])

    def find(self, text: str) -> list[Match]:
        folded = fold(text)
        kept = self._candidates(folded)
        return _placed(folded, joined(kept)) if kept else []

    def find_each(self, text: str) -> list[Match]:
        """Like ``find``, but in no order, and where matches overlap each of them."""
        folded = fold(text)
        return _placed(folded, self._candidates(folded))

    def _candidates(self, folded: Folded) -> list[Candidate]:
        flagged = self._gate.which(folded.codes)
        if not flagged:
            return []
        found = [candidate for which in flagged for candidate in self._finders[which](folded)]
        return list(self._counting(folded, found)) if found else []

    def quiet(self, texts: Sequence[str]) -> bool:
        """True only if there is nothing in any of ``texts``; False means that one has to look."""
        return not self._gate.which(fold("\0".join(texts)).codes)

    def settled(self, text: str) -> int:
        folded = fold(text)
        codes = folded.codes
        least = len(codes) - 2 * _NUMBER_REACH
        place = len(codes.rstrip(_SOLID))
        while place:
            before = self._uncrossed(codes, place)
            if before == place:
                return folded.index(place)
            place = len(codes[:before].rstrip(_SOLID))
            if place < least:
                return self._settled_far(folded, text)
        return 0

    def _settled_far(self, folded: Folded, text: str) -> int:
        """In a long list of numbers: the last break that is further from the end than a match can be long,
        and in none. What is near the end is looked at first, and mostly enough."""
        near = max(0, len(text) - _NEAR_CHARS)
        return self._uncovered(folded, text, near) or (self._uncovered(folded, text, 0) if near else 0)

    def _uncovered(self, folded: Folded, text: str, near: int) -> int:
        """The last such break behind the index ``near``; 0 if there is none as far as one can tell."""
        codes = folded.codes
        matches = self.find(text[near:])
        place = len(codes[: max(0, len(codes) - _NUMBER_REACH)].rstrip(_SOLID))
        while place:
            index = folded.index(place)
            if near and index < near + REACH:
                return 0
            while matches and matches[-1].start + near >= index:
                matches.pop()
            before = (
                place - 1
                if matches and matches[-1].end + near > index
                else self._uncrossed(codes, place, far=True)
            )
            if before == place:
                return index
            place = len(codes[:before].rstrip(_SOLID))
        return 0

    def _uncrossed(self, codes: bytes, place: int, *, far: bool = False) -> int:
        """``place``, which is behind a break, unless a match may go across it: then one before it.

        ``far``: from the end, so that numbers would have been found.
        """
        if not far and self._spaced and codes[place - 1] == 32 and self._may_cross(codes, place):
            return place - 1
        if self._deny is not None and self._deny.opens(codes, place):
            return place - 1
        if codes[place - 1] == 59 and tokens.ends_in_at(codes, place):
            return place - 1
        if "PRIVATE_KEY" in self.entities and b"-----BEGIN" in codes:
            return credentials.before_private_keys(codes, place)
        return place

    def _may_cross(self, codes: bytes, place: int) -> bool:
        if self._numeric and _may_cross_number(codes, place):
            return True
        return "IBAN_CODE" in self.entities and _may_cross_iban(codes, place)

    def _counting(self, folded: Folded, found: Sequence[Candidate]) -> Iterator[Candidate]:
        for candidate in found:
            if candidate.score < self._threshold or candidate.entity not in self.entities:
                continue
            if (
                candidate.entity == "DENY_LIST"
                or self._allow.empty
                or not self._allow.allows(folded.codes[candidate.start : candidate.end])
            ):
                yield candidate

    def _gated(self) -> Iterator[tuple[bytes, Finder]]:
        for entity, (pattern, finder) in _FINDERS.items():
            if entity in self.entities:
                yield pattern, finder
        if self._numeric:
            yield b"[0-9](?:[ \\-./()]{0,3}[0-9]){%d}" % (self._least_digits() - 1), self._find_numbers
        if self._deny is not None:
            yield self._deny.pattern, self._deny.find

    def _least_digits(self) -> int:
        if self._phones is not None:
            return 7
        return 9 if self.entities & {"US_SSN", "US_ITIN"} else 13

    def _find_numbers(self, folded: Folded) -> Iterator[Candidate]:
        for start, end in _RUN.spans(folded.codes):
            run = Run.of(folded.codes, start, end)
            if "CREDIT_CARD" in self.entities:
                yield from find_cards(folded, run)
            if self.entities & {"US_SSN", "US_ITIN"}:
                yield from find_tax_numbers(folded, run)
            if self._phones is not None:
                yield from self._phones.find(folded, run)


def _placed(folded: Folded, candidates: Iterable[Candidate]) -> list[Match]:
    return [Match(*folded.span(start, end), entity, score) for start, end, entity, score in candidates]


def _may_cross_number(codes: bytes, place: int) -> bool:
    before = codes[max(0, place - 4) : place]
    head = before.rstrip(_SEPARATORS)
    between = len(before) - len(head)
    if not head[-1:].isdigit() or between > 3:
        return False
    after = codes[place : place + 4].lstrip(_SEPARATORS)
    return (not after and len(codes) - place + between <= 3) or after[:1].isdigit()


def _may_cross_iban(codes: bytes, place: int) -> bool:
    """Whether a word before looks like the beginning of an IBAN, and only groups lie in between."""
    after = codes[place : place + 1]
    if after and not after.isalnum():
        return False
    before = codes[max(0, place - tokens.IBAN_REACH) : place]
    groups = before[len(before.rstrip(_IBAN_CODES)) :]
    return _IBAN_START.search(groups) is not None
