"""Folding: a text as bytes in which personal data is looked for, and the way back to its own indices."""

from __future__ import annotations

import codecs

from gateway.privacy.fold_table import CHARMAP, CHARMAP_BYTES, TABLE


class Folded:
    """``text`` and ``codes``, one byte for each visible character of it, as ``fold_table`` says.

    Indices of ``codes`` are called places.
    """

    __slots__ = ("_indices", "codes", "text")

    def __init__(self, text: str, codes: bytes) -> None:
        self.text = text
        self.codes = codes
        self._indices: list[int] | None = None

    def index(self, place: int) -> int:
        """The index in ``text`` of what stands at ``place``; its length for the place behind the last."""
        if len(self.codes) == len(self.text):
            return place
        if place >= len(self.codes):
            return len(self.text)
        if self._indices is None:
            table = TABLE
            self._indices = [
                i for i, character in enumerate(self.text) if table[ord(character)] is not None
            ]
        return self._indices[place]

    def span(self, start: int, end: int) -> tuple[int, int]:
        """The part of ``text`` for the places from ``start`` up to ``end``, at least one."""
        return self.index(start), self.index(end - 1) + 1


def fold(text: str) -> Folded:
    """Linear in time; ASCII, and what is common in European texts, needs no table look-ups."""
    if text.isascii():
        return Folded(text, text.encode("ascii"))
    try:
        encoded, _ = codecs.charmap_encode(text, "strict", CHARMAP)
    except UnicodeEncodeError:
        return Folded(text, text.translate(TABLE).encode("latin-1"))
    return Folded(text, encoded.translate(CHARMAP_BYTES))


def mixes_digits(text: str) -> bool:
    """Whether decorated digits (superscript, circled) stand among plain ones: footnotes, list marks."""
    decorated = sum(character.isdigit() and not character.isdecimal() for character in text)
    return 0 < decorated < sum(character.isdigit() for character in text)
