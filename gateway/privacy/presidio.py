"""The wide catalogue: Presidio's recognisers, called directly, with the tenant's own beside them.

Presidio and spaCy are imported when the first detector is built, and never before. ``find`` holds the GIL:
it belongs off the loop for long texts.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gateway.privacy.interface import DetectorFailed, Match
from gateway.privacy.normalise import fold
from gateway.privacy.presidio_catalogue import finders
from gateway.privacy.presidio_context import CONTEXT_CHARS, ContextWords
from gateway.privacy.presidio_finders import Finder, own_finder, within
from gateway.privacy.presidio_names import NAME_ENTITIES, name_finder
from gateway.privacy.presidio_overlaps import CONFIRMED_SCORE, UNCONFIRMED_SCORE, resolved, with_rivals
from gateway.privacy.presidio_pieces import (
    KEY_CHARS,
    PIECE_CHARS,
    REACH_CHARS,
    Piece,
    encodable,
    odd_lines,
    pieces,
    settled_end,
    windows,
)
from gateway.privacy.presidio_secrets import MULTI_LINE_ENTITIES, SECRET_ENTITIES, secret_recognisers
from gateway.privacy.recognisers import OwnRecogniser, Scored, word_pattern
from gateway.privacy.words import AllowList

Gate = Callable[[str], Iterable[tuple[int, int]]]

DENIED = "DENY_LIST"
_GATE_MARGIN = 192
_SAMPLE = (
    "Call +1 212-555-0142 or 2125550142, mail jo@example.com, pay DE89 3704 0044 0532 0130 00, at 192.0.2.1"
)
_CONTEXT_GAIN, _CONTEXT_FLOOR = 0.35, 0.4


@dataclass(frozen=True, slots=True)
class _View:
    """A text, its parts, and those that are worth a look."""

    text: str
    everywhere: list[Piece]
    flagged: list[Piece]

    def parts(self, finder: Finder) -> list[Piece]:
        if finder.whole_text:
            return [Piece(0, len(self.text))]
        return self.flagged if finder.gated else self.everywhere


class PresidioDetector:
    """Finds ``entities`` by Presidio's recognisers; implements ``Detector``.

    ``languages``: the first is that of the tokenizer and of the model; all count for phone regions.
    ``threshold``: the least score, 0 to 1. ``allow`` and ``allow_patterns``: what is never a match;
    ``deny``: words that always are, as ``DENY_LIST``; neither looks at case. ``recognisers``: the tenant's
    own, always active.
    ``gate``: gives the spots worth a look; Presidio's recognisers then see only what is around them, while
    names, own recognisers and denied words are looked for everywhere. ``budget_s``: the most seconds that a
    call may take, checked between recognisers.

    A match never crosses the end of a line (private keys do) and, with own recognisers and names, of a
    sentence; so ``settled`` is the last such end. Raises ``UnknownEntity``, ``ModelMissing`` or
    ``RecogniserFault``, which are all ``ValueError``.
    """

    def __init__(
        self,
        entities: Iterable[str],
        languages: Sequence[str] = ("en",),
        threshold: float = 0.4,
        allow: Iterable[str] = (),
        allow_patterns: Iterable[str] = (),
        deny: Iterable[str] = (),
        recognisers: Sequence[OwnRecogniser] = (),
        model_path: Path | None = None,
        gate: Gate | None = None,
        budget_s: float = 1.0,
    ) -> None:
        self._threshold = threshold
        self._allow = AllowList(tuple(allow), tuple(allow_patterns))
        self._gate = gate
        self._budget_s = budget_s
        spoken = tuple(languages) or ("en",)
        denied = sorted(set(deny))
        own = {recogniser.entity for recogniser in recognisers}
        asked = frozenset(entities) - own - {DENIED}
        self.entities = asked | own | ({DENIED} if denied else set())
        self.reach = max(REACH_CHARS, KEY_CHARS if asked & MULTI_LINE_ENTITIES else 0)
        self._finders = [
            *_presidio_finders(asked, spoken),
            *_secret_finders(asked),
            *(own_finder(recogniser, _shared(recogniser, spoken)) for recogniser in recognisers),
            *([_denied_finder(denied)] if denied else []),
            *([name_finder(asked & NAME_ENTITIES, spoken, model_path)] if asked & NAME_ENTITIES else []),
        ]
        self._context = ContextWords(spoken)
        for finder in self._finders:  # Presidio compiles its patterns on first use
            _guarded(finder, Piece(0, len(_SAMPLE)), _SAMPLE)

    def find(self, text: str) -> list[Match]:
        """The matches in ``text``, in order and without overlaps; raises ``DetectorFailed``."""
        readable = encodable(text)
        ends = time.monotonic() + self._budget_s
        view = self._view(readable)
        matches = [match for finder in self._finders for match in self._by(finder, view, ends)]
        matches += self._veiled(readable, ends)
        return resolved(
            (match for match in matches if not self._is_allowed(readable, match)), self.entities
        )

    def settled(self, text: str) -> int:
        """The index behind the last line or sentence of ``text``; in a line without end, the last blank
        that is ``reach`` characters back and in no match."""
        end = settled_end(text)
        if len(text) - end <= PIECE_CHARS + self.reach:
            return end
        cut = text.rfind(" ", end, len(text) - REACH_CHARS) + 1 or len(text) - REACH_CHARS
        around = max(0, cut - PIECE_CHARS)
        for match in self.find(text[around:]):
            if match.start + around < cut < match.end + around:
                return match.start + around
        return cut

    def _veiled(self, text: str, ends: float) -> Iterator[Match]:
        """What shows once invisible, wide and look-alike characters are read as what they look like."""
        for start, end in odd_lines(text):
            folded = fold(text[start:end])
            view = self._view(folded.codes.decode("latin-1"))
            for finder in self._finders:
                if finder.folded:
                    for match in self._by(finder, view, ends):
                        left, right = folded.span(match.start, match.end)
                        yield Match(start + left, start + right, match.entity, match.score)

    def _by(self, finder: Finder, view: _View, ends: float) -> Iterator[Match]:
        text = view.text
        for piece in view.parts(finder):
            if time.monotonic() > ends:
                raise DetectorFailed(f"looking for personal data took more than {self._budget_s:g} s")
            for match in _guarded(finder, piece, text):
                scored = self._scored(finder, match, text)
                if scored.score < self._threshold:
                    continue
                judged = scored if finder.repair is None else finder.repair(text, scored)
                if judged is not None:
                    yield judged

    def _view(self, text: str) -> _View:
        everywhere = list(pieces(text))
        return _View(text, everywhere, everywhere if self._gate is None else list(_gated(self._gate, text)))

    def _scored(self, finder: Finder, match: Match, text: str) -> Match:
        checksum_only = match.entity == "UK_NHS"
        if not finder.context or (match.score >= self._threshold and not checksum_only):
            return match
        if not checksum_only and max(match.score + _CONTEXT_GAIN, _CONTEXT_FLOOR) < self._threshold:
            return match
        before = text[max(0, match.start - CONTEXT_CHARS) : match.end].lower()
        near = any(word in before for word in finder.context)
        if checksum_only:
            score = CONFIRMED_SCORE if near else UNCONFIRMED_SCORE
        else:
            score = (
                self._context.boosted(text, match, finder.context, finder.language) if near else match.score
            )
        return Match(match.start, match.end, match.entity, score)

    def _is_allowed(self, text: str, match: Match) -> bool:
        if self._allow.empty or match.entity == DENIED:
            return False
        return self._allow.allows(fold(text[match.start : match.end]).codes)


def _presidio_finders(asked: frozenset[str], languages: tuple[str, ...]) -> list[Finder]:
    return finders(with_rivals(asked) - SECRET_ENTITIES - NAME_ENTITIES, languages)


def _secret_finders(asked: frozenset[str]) -> list[Finder]:
    return [
        own_finder(recogniser, "en", multi_line=recogniser.entity in MULTI_LINE_ENTITIES)
        for recogniser in secret_recognisers()
        if recogniser.entity in asked
    ]


def _denied_finder(words: Sequence[str]) -> Finder:
    pattern = Scored(word_pattern(words, "deny"), 1.0, whole_words=True)
    return own_finder(OwnRecogniser("deny", DENIED, (pattern,), {"en": ()}), "en")


def _shared(recogniser: OwnRecogniser, languages: Sequence[str]) -> str:
    return next((name for name in languages if name in recogniser.languages), languages[0])


def _gated(gate: Gate, text: str) -> Iterator[Piece]:
    try:
        spots = sorted(gate(text))
    except Exception as error:
        raise DetectorFailed(
            f"the gate before the recognisers crashed with {type(error).__name__}"
        ) from error
    for window in windows(text, spots, _GATE_MARGIN):
        for piece in pieces(text[window.start : window.end]):
            yield Piece(
                piece.start + window.start,
                piece.end + window.start,
                piece.cut_before or (piece.start == 0 and window.cut_before),
                piece.cut_behind or (piece.end + window.start == window.end and window.cut_behind),
            )


def _guarded(finder: Finder, piece: Piece, text: str) -> list[Match]:
    """What ``finder`` finds in ``piece``; raises ``DetectorFailed`` if it crashes or answers nonsense.

    The message holds no part of the text.
    """
    try:
        matches = list(within(piece, text, lambda part: list(finder.find(part))))
    except Exception as error:
        raise DetectorFailed(f"the recogniser {finder.name} crashed with {type(error).__name__}") from error
    for match in matches:
        sensible = 0 <= match.start < match.end <= len(text) and isinstance(match.entity, str)
        if not sensible or not math.isfinite(match.score) or not 0 <= match.score <= 1:
            raise DetectorFailed(f"the recogniser {finder.name} gave a match that cannot be")
    return matches
