"""The wide catalogue: Presidio's recognisers, called directly, with the tenant's own beside them.

Presidio and spaCy are imported when the first detector is built, and never before. ``find`` holds the GIL:
it belongs off the loop for long texts.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import TypeVar

from gateway.privacy.detect_fast import SUPPORTED, DetectionPolicy, FastDetector
from gateway.privacy.entities import DENIED, NAME_ENTITIES, PRESIDIO_ENTITIES, SECRET_ENTITIES
from gateway.privacy.interface import DetectorFailed, Match
from gateway.privacy.joined import ROUNDS, agreed
from gateway.privacy.normalise import Folded, fold
from gateway.privacy.plain_context import CONTEXT_CHARS, CONTEXT_FLOOR, CONTEXT_GAIN, PlainContext
from gateway.privacy.presidio_catalogue import finders
from gateway.privacy.presidio_context import ContextWords
from gateway.privacy.presidio_finders import Finder, own_finder, within
from gateway.privacy.presidio_names import name_finder
from gateway.privacy.presidio_overlaps import CONFIRMED_SCORE, UNCONFIRMED_SCORE, resolved, with_rivals
from gateway.privacy.presidio_pieces import (
    PIECE_CHARS,
    REACH_CHARS,
    Piece,
    before_open_key,
    is_odd,
    odd_lines,
    pieces,
    readable,
    settled_end,
    windows,
)
from gateway.privacy.presidio_secrets import secret_finders
from gateway.privacy.recognisers import OwnRecogniser, Scored, word_pattern
from gateway.privacy.words import AllowList

_T = TypeVar("_T")
Gate = Callable[[str], Iterable[tuple[int, int]]]

_GATE_MARGIN = 192
_FAR = 72
"""Characters: from there on, in long lists of numbers, the built-in detector goes by its own matches."""
_PLAIN = SUPPORTED - {DENIED, "URL", "PHONE_NUMBER"}
_BLANKED = SUPPORTED | {"UK_NHS"}
"""Entities of which nothing lies across a blank where the built-in detector sees an end."""
_JOINT_CHARS = 8
_JOINT = r"[\s()\[\]./~+\u2010-\u2015-]*"
_DIGIT_BEFORE, _DIGIT_BEHIND = re.compile(rf"\d{_JOINT}\Z"), re.compile(rf"{_JOINT}(?:\d|\Z)")
_BLOCK_CHARS = 32
"""Where there is something to find, a stream is searched each time that so much more has come."""
_BLANKED_REACH_CHARS = 256
"""Words that speak for a match stand in the 160 characters before it."""
_SAMPLE = (
    "Call +1 212-555-0142 or 2125550142, mail jo@example.com, pay DE89 3704 0044 0532 0130 00, at 192.0.2.1"
)


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


@dataclass(slots=True)
class _Search:
    """What was found so far, and the first thing that failed; one that fails does not switch off others.
    ``ends_s``: by the monotonic clock."""

    ends_s: float
    found: list[Match] = field(default_factory=list)
    failed: DetectorFailed | None = None

    def tried(self, run: Callable[[], Iterable[_T]]) -> list[_T]:
        """What ``run`` gives until it fails."""
        kept: list[_T] = []
        try:
            kept.extend(run())
        except DetectorFailed as fault:
            self.failed = self.failed or fault
        return kept


class PresidioDetector:
    """Finds ``entities`` by Presidio's recognisers; implements ``Detector``.

    ``languages``: the first is that of the tokenizer and of the model; all count for phone regions.
    ``threshold``: the least score, 0 to 1. ``allow`` and ``allow_patterns``: what is never a match;
    ``deny``: words that always are, as ``DENY_LIST``; neither looks at case. ``recognisers``: the tenant's
    own, always active, and beside Presidio's where they find the same; names are left to them where there
    is no model. With no others than these, Presidio is not imported.
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
        known = PRESIDIO_ENTITIES if model_path else PRESIDIO_ENTITIES - NAME_ENTITIES
        asked = frozenset(entities) - (own - known) - {DENIED}
        self.entities = asked | own | ({DENIED} if denied else set())
        self._plain = _built_in(with_rivals(asked) & _PLAIN, threshold, denied)
        self._by_blanks = asked <= _BLANKED and not recognisers
        self._signs = (
            _built_in(with_rivals(asked) & SUPPORTED, threshold, denied)
            if self._by_blanks and "URL" not in asked
            else None
        )
        self.reach = _BLANKED_REACH_CHARS if self._by_blanks else REACH_CHARS
        self._finders = [
            *([_plain_finder(self._plain)] if self._plain is not None else []),
            *_presidio_finders(asked, spoken),
            *secret_finders(asked),
            *(own_finder(recogniser, _shared(recogniser, spoken)) for recogniser in recognisers),
            *([_denied_finder(denied)] if denied else []),
            *([name_finder(asked & NAME_ENTITIES, spoken, model_path)] if asked & NAME_ENTITIES else []),
        ]
        self._folded = [finder for finder in self._finders if finder.folded]
        self._context = ContextWords(spoken) if asked - SECRET_ENTITIES else PlainContext()
        for finder in self._finders:  # Presidio compiles its patterns on first use
            _guarded(finder, Piece(0, len(_SAMPLE)), _SAMPLE)

    def find(self, text: str) -> list[Match]:
        """The matches in ``text``, in order and without overlaps; raises ``DetectorFailed``."""
        if self.quiet((text,)):
            return []
        text = readable(text)
        search = _Search(time.monotonic() + self._budget_s)
        view = search.tried(lambda: [self._view(text)])
        for finder in self._finders if view else ():
            search.found += search.tried(partial(self._by, finder, view[0], search))
        search.found += self._veiled(text, search)
        kept = (match for match in search.found if not self._is_allowed(text, match))
        matches = resolved(kept, self.entities)
        if search.failed is not None:
            raise DetectorFailed(str(search.failed), matches) from search.failed
        return matches

    def quiet(self, texts: Sequence[str]) -> bool:
        """True only if there is nothing in any of ``texts``; False means that one has to look."""
        if self._signs is None or any("\t" in text for text in texts):  # phones with tabs between digits
            return False
        return self._signs.quiet(texts)

    def settled(self, text: str) -> int:
        """The index behind the last line or sentence of ``text``; where only the built-in detector's
        entities are looked for, the last blank that it settles. In a line without end, the last blank
        that is ``reach`` characters back and in no match."""
        if self._plain is None:
            return self._settled_by_lines(text)
        if self._by_blanks and (place := self._settled_by_blanks(self._plain, text)):
            return place
        return agreed(self._settled_by_lines, self._plain.settled, text)

    def _settled_by_blanks(self, plain: FastDetector, text: str) -> int:
        end = len(text)
        for _ in range(ROUNDS):
            place = plain.settled(text[:end])
            if not place or (self.reach < place < self.reach + _BLOCK_CHARS and not self.quiet((text,))):
                return 0
            end = self._whole_before(text, place)
            if end == place:
                return place
        return 0

    def _whole_before(self, text: str, place: int) -> int:
        """``place``, unless one of Presidio's matches may go across it: then one further to the left."""
        if text[place - 1] not in " \n" or _between_digits(text, place):
            return max(text.rfind(" ", 0, place - 1), text.rfind("\n", 0, place - 1)) + 1
        if len(text) - place >= _FAR:
            around = max(0, place - self.reach - PIECE_CHARS)
            whole = [match for match in self.find(text[around:]) if match.start < place - around]
            alone = self.find(text[around:place])
            if whole != alone:
                both = zip_longest(whole, alone)
                first = next(pair for pair in both if pair[0] != pair[1])
                return around + min(match.start for match in first if match is not None)
        return before_open_key(text, place)

    def _settled_by_lines(self, text: str) -> int:
        end = settled_end(text)
        if len(text) - end <= PIECE_CHARS + self.reach:
            return end
        cut = text.rfind(" ", end, len(text) - REACH_CHARS) + 1 or len(text) - REACH_CHARS
        around = max(0, cut - PIECE_CHARS)
        for match in self.find(text[around:]):
            if match.start + around < cut < match.end + around:
                return match.start + around
        return cut

    def _veiled(self, text: str, search: _Search) -> Iterator[Match]:
        """What shows once invisible, wide and look-alike characters are read as what they look like, where
        there are such in it or not far before it."""
        for start, end in odd_lines(text):
            folded = fold(text[start:end])
            for view in search.tried(partial(self._views, folded)):
                for finder in self._folded:
                    for match in search.tried(partial(self._by, finder, view, search)):
                        left, right = folded.span(match.start, match.end)
                        if is_odd(text, max(start, start + left - CONTEXT_CHARS), start + right + 1):
                            yield Match(start + left, start + right, match.entity, match.score)

    def _by(self, finder: Finder, view: _View, search: _Search) -> Iterator[Match]:
        text = view.text
        for piece in view.parts(finder):
            if time.monotonic() > search.ends_s:
                raise DetectorFailed(f"looking for personal data took more than {self._budget_s:g} s")
            for match in _guarded(finder, piece, text):
                scored = self._scored(finder, match, text)
                if scored.score < self._threshold:
                    continue
                judged = scored if finder.repair is None else finder.repair(text, scored)
                if judged is not None:
                    yield judged

    def _views(self, folded: Folded) -> list[_View]:
        return [self._view(folded.codes.decode("latin-1"))]

    def _view(self, text: str) -> _View:
        everywhere = list(pieces(text))
        return _View(text, everywhere, everywhere if self._gate is None else list(_gated(self._gate, text)))

    def _scored(self, finder: Finder, match: Match, text: str) -> Match:
        checksum_only = match.entity == "UK_NHS"
        if not finder.context or (match.score >= self._threshold and not checksum_only):
            return match
        if not checksum_only and max(match.score + CONTEXT_GAIN, CONTEXT_FLOOR) < self._threshold:
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


def _between_digits(text: str, place: int) -> bool:
    """Whether the library for phone numbers may see one number across ``place``."""
    return (
        _DIGIT_BEFORE.search(text, max(0, place - _JOINT_CHARS), place) is not None
        and _DIGIT_BEHIND.match(text, place, place + _JOINT_CHARS) is not None
    )


def _built_in(entities: frozenset[str], threshold: float, denied: Sequence[str]) -> FastDetector | None:
    if not entities and not denied:
        return None
    return FastDetector(DetectionPolicy(entities, threshold, deny=tuple(denied)))


def _plain_finder(plain: FastDetector) -> Finder:
    return Finder(
        name="the built-in one",
        entities=plain.entities,
        run=plain.find_each,
        whole_text=True,
        gated=False,
        folded=False,
    )


def _presidio_finders(asked: frozenset[str], languages: tuple[str, ...]) -> list[Finder]:
    wanted = with_rivals(asked) - SECRET_ENTITIES - NAME_ENTITIES
    return finders(wanted, languages) if wanted else []


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
