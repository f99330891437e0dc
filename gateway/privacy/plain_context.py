"""Words near a match that speak for it, by Presidio's rule but without Presidio."""

from __future__ import annotations

import re

from gateway.privacy.interface import Match

CONTEXT_CHARS = 160
CONTEXT_GAIN, CONTEXT_FLOOR = 0.35, 0.4
_WORDS_BEFORE = 10
_WORD = re.compile(r"\w+")


class PlainContext:
    """Raises the score of a match that has a word of its recogniser's context among the ten words before
    it (Presidio counts five, but none like "of" and "the"); a phrase must stand there as it is."""

    def boosted(self, text: str, match: Match, words: tuple[str, ...], language: str) -> float:
        """The score of ``match`` in ``text``, 0 to 1. Case does not count, and a longer word that holds
        the word will do."""
        before = _WORD.findall(text[max(0, match.start - CONTEXT_CHARS) : match.start])
        near = " ".join(before[-_WORDS_BEFORE:]).lower()
        if not any(word.lower() in near for word in words):
            return match.score
        return min(1.0, max(match.score + CONTEXT_GAIN, CONTEXT_FLOOR))
