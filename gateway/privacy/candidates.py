"""What the recognisers of the fast detector share: a candidate, its surroundings, and how candidates join.

Each recogniser is a function from places in the text to candidates that looks at nothing but the stretch
itself, two bytes on either side (none of them behind white space), and the label in front of it. All
candidates are looked at, overlapping ones too, so that none depends on where a search began.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from gateway.privacy.normalise import Folded, mixes_digits

CONTEXT = 40
"""How many characters in front of a candidate may say what it is."""

SECRETS = frozenset({"API_KEY", "JWT", "PRIVATE_KEY"})


class Candidate(NamedTuple):
    """Places of folded text from ``start`` up to ``end`` that may be ``entity``."""

    start: int
    end: int
    entity: str
    score: float


def touches_word(codes: bytes, start: int, end: int) -> bool:
    """Whether a number goes on as a word or a longer number on either side."""
    return follows_word(codes, start) or begins_word(codes, end)


def unfit(folded: Folded, start: int, end: int) -> bool:
    """Whether digits cannot be a number of their own: parts of something longer, or of a mixed kind."""
    if touches_word(folded.codes, start, end):
        return True
    return not folded.text.isascii() and mixes_digits(folded.text[slice(*folded.span(start, end))])


def follows_word(codes: bytes, start: int) -> bool:
    before = codes[start - 1 : start] if start else b""
    if before.isalnum() or before == b"\x80":
        return True
    return before in _JOINTS and start > 1 and codes[start - 2 : start - 1].isdigit()


def begins_word(codes: bytes, end: int) -> bool:
    after = codes[end : end + 1]
    if after.isalnum() or after == b"\x80":
        return True
    return after in _JOINTS and codes[end + 1 : end + 2].isdigit()


_JOINTS = (b"-", b".", b"/")


def context_of(folded: Folded, start: int) -> str:
    """What stands in front of the place ``start``, in lower case."""
    index = folded.index(start)
    return folded.text[max(0, index - CONTEXT) : index].lower()


def joined(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Overlapping candidates as one: from the first start to the last end, named after a secret
    in it, else after the surest, the longest, the first. So nothing that was found is left uncovered."""
    clusters: list[Candidate] = []
    named: Candidate | None = None
    for candidate in sorted(candidates):
        if named is None or candidate.start >= clusters[-1].end:
            clusters.append(candidate)
            named = candidate
            continue
        named = max(named, candidate, key=_weight)
        last = clusters[-1]
        clusters[-1] = Candidate(last.start, max(last.end, candidate.end), named.entity, named.score)
    return clusters


def _weight(candidate: Candidate) -> tuple[bool, float, int]:
    return candidate.entity in SECRETS, candidate.score, candidate.end - candidate.start
