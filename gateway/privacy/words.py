"""Deny list: words and phrases that are always found. Allow list: values that never are."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence

from gateway.privacy.candidates import Candidate
from gateway.privacy.fold_table import TABLE
from gateway.privacy.linear import Linear, literal
from gateway.privacy.normalise import Folded, fold

BREAKS = bytes(code for code in range(33)) + b'"<>|{}[],;`\x7f\x81'


def visible(text: str) -> str:
    """``text`` without what nobody sees, in one spelling and case: what words are compared by."""
    if text.isascii():
        return text.casefold()
    shown = "".join(character for character in text if TABLE[ord(character)] is not None)
    return unicodedata.normalize("NFKC", shown).casefold()


def spelled(text: str) -> str:
    """Like ``visible``, look-alikes and accents folded as far as ``fold`` does."""
    return fold(text).codes.decode("latin-1").lower()


class DenyList:
    """Words found whole and in any case; ``pattern`` is for the gate."""

    def __init__(self, words: Sequence[str]) -> None:
        self._words = {visible(word) for word in words} | {
            spelled(word) for word in words if word.isascii()
        }
        folded = sorted({fold(word).codes.lower() for word in words if word.strip()}, key=len, reverse=True)
        self._folded = folded
        self.longest = max(map(len, folded), default=0)
        self.pattern = b"(?i:" + b"|".join(map(literal, folded)) + b")"
        self._prefixes = frozenset(
            word[:size] for word in folded for size in range(1, len(word)) if word[size - 1] in BREAKS
        )
        self._sizes = sorted({len(prefix) for prefix in self._prefixes})

    def find(self, folded: Folded) -> Iterator[Candidate]:
        codes = folded.codes.lower()
        for word in self._folded:
            place = codes.find(word)
            while place >= 0:
                end = place + len(word)
                if self._stands_alone(codes, place, end) and self._is_listed(folded, place, end):
                    yield Candidate(place, end, "DENY_LIST", 1.0)
                place = codes.find(word, place + 1)

    def opens(self, codes: bytes, place: int) -> bool:
        """Whether what ends at ``place`` may be the beginning of a phrase that goes on."""
        if not self._sizes:
            return False
        end = codes[max(0, place - self._sizes[-1]) : place].lower()
        return any(end[-size:] in self._prefixes for size in self._sizes)

    @staticmethod
    def _stands_alone(codes: bytes, start: int, end: int) -> bool:
        before = start and codes[start : start + 1].isalnum() and codes[start - 1 : start].isalnum()
        return not before and not (codes[end - 1 : end].isalnum() and codes[end : end + 1].isalnum())

    def _is_listed(self, folded: Folded, start: int, end: int) -> bool:
        text = folded.text[slice(*folded.span(start, end))]
        return visible(text) in self._words or spelled(text) in self._words


class AllowList:
    """Values, and patterns of whole values (RE2's syntax), that are nobody's secret."""

    def __init__(self, values: Sequence[str], patterns: Sequence[str]) -> None:
        self._values = frozenset(spelled(value) for value in values)
        self._patterns = [
            Linear(pattern.encode("latin-1", "replace"), ignore_case=True) for pattern in patterns
        ]
        self.empty = not self._values and not self._patterns

    def allows(self, codes: bytes) -> bool:
        if codes.decode("latin-1").lower() in self._values:
            return True
        return any(pattern.covers(codes) for pattern in self._patterns)
