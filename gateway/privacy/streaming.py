"""Answers as they come: text in pieces, cut anywhere, with the same result as the whole text.

Each transform takes pieces of one text (``feed``), returns what may go out, and at the end the rest
(``flush``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from gateway.privacy.forced import cut_by_force
from gateway.privacy.interface import Detector, Match
from gateway.privacy.json_text import JsonText, escaped, unfinished
from gateway.privacy.placeholders import LONGEST, AnswerPlaceholders, Placeholders, substitute
from gateway.privacy.restoring import restored_json

_EAGER = 256
"""Up to so many characters held back are looked at with every piece, more of them when they have grown by
an eighth: so that a text without any break costs linear time."""

_PIECE = 4096
"""Characters that are looked at together, at most, but for what is held back."""
_MOST_HELD = 64 * 1024
"""Characters, at most; whatever is longer is cut."""

_STEP = 256
"""Characters between two looks at a text of which more than so many are held back: a list of numbers."""


class Pace:
    """``hurried``: more comes at once, and what is there need not be looked at piece by piece."""

    __slots__ = ("hurried",)

    def __init__(self) -> None:
        self.hurried = False


class TextTransform(Protocol):
    """``opening``: what stands in every piece that may change while nothing is held back (``holds``); empty
    where any piece may."""

    @property
    def opening(self) -> str: ...

    @property
    def holds(self) -> bool: ...

    def feed(self, text: str) -> str: ...

    def flush(self) -> str: ...


class Restorer:
    """Puts the values back; holds back nothing but the beginning of a placeholder of this exchange.

    ``json``: the text is JSON, values go into its strings, and placeholders may be escaped.
    """

    opening = "["

    def __init__(self, placeholders: Placeholders, *, json: bool = False) -> None:
        self._placeholders = placeholders
        self._json = json
        self._held = ""

    @property
    def holds(self) -> bool:
        return self._held != ""

    def feed(self, text: str) -> str:
        held = self._held + text if self._held else text
        if self._json and "\\" in held:
            return self._feed_escaped(held)
        opening = held.rfind("[")
        if opening < 0:
            return held
        if self._placeholders.begins(held[opening:]):
            self._held = held[opening:]
            held = held[:opening]
        else:
            self._held = ""
        return self._placeholders.restore(held, escaped if self._json else str)

    def _feed_escaped(self, held: str) -> str:
        view = JsonText(held[: unfinished(held)])
        opening = view.text.rfind("[")
        begins = opening >= 0 and self._placeholders.begins(view.text[opening:])
        end = view.index(opening if begins else len(view.text))
        self._held = held[end:]
        return restored_json(held[:end], self._placeholders)

    def flush(self) -> str:
        held, self._held = self._held, ""
        return held


class Masker:
    """Masks what the provider wrote itself; holds back what the detector has not settled.

    Placeholders of this exchange stay. ``json``: the text is JSON and stays valid. ``pace``: of the answer.
    """

    opening = ""

    def __init__(
        self,
        detector: Detector,
        placeholders: AnswerPlaceholders,
        *,
        json: bool = False,
        pace: Pace | None = None,
    ) -> None:
        self._detector = detector
        self._pace = pace or Pace()
        self._placeholders = placeholders
        self._json = json
        self._reach = max(detector.reach, LONGEST)
        self._inside = self._cut_in_two = False
        self._before = ""
        self._held: list[str] = []
        self._size = self._wait = self._seen = 0

    @property
    def holds(self) -> bool:
        return self._size > 0

    @property
    def held_chars(self) -> int:
        return self._size

    def feed(self, text: str) -> str:
        if len(text) <= _PIECE:
            return self._feed(text)
        return "".join(self._feed(text[start : start + _PIECE]) for start in range(0, len(text), _PIECE))

    def _feed(self, text: str) -> str:
        self._held.append(text)
        self._size += len(text)
        if self._size < self._wait or not text:
            return ""
        if self._pace.hurried and self._size < self._seen + _STEP:
            return ""
        self._seen = self._size
        raw = "".join(self._held)
        view = JsonText(raw[: unfinished(raw)], self._inside) if self._json else None
        shown = self._before + (view.text if view else raw)
        end = self._detector.settled(shown)
        if end <= len(self._before) and self._size > _MOST_HELD:
            matches, end = cut_by_force(self._detector, shown, len(self._before))
            out = self._settle(raw, view, shown, end, matches)
            self._cut_in_two = bool(matches) and matches[-1].end == end
            return out
        if end <= len(self._before):
            self._held = [raw]
            self._wait = self._size + self._size // 8 if self._size > _EAGER else 0
            return ""
        return self._settle(raw, view, shown, end, self._detector.find(shown[:end]))

    def flush(self) -> str:
        raw = "".join(self._held)
        if not raw:
            return ""
        view = JsonText(raw, self._inside) if self._json else None
        shown = self._before + (view.text if view else raw)
        out = self._settle(raw, view, shown, len(shown), self._detector.find(shown))
        self._cut_in_two = True  # a text may go on behind its end
        return out

    def _settle(self, raw: str, view: JsonText | None, shown: str, end: int, found: Sequence[Match]) -> str:
        """Lets out what of ``raw`` lies before ``end``, an index of ``shown``."""
        offset = len(self._before)
        matches = [
            Match(max(0, match.start - offset), match.end - offset, match.entity)
            for match in self._own(shown[:end], found)
        ]
        self._cut_in_two = False
        used, token = end - offset, self._placeholders.token
        if view is None:
            out = raw[:used]
            if matches:
                out = substitute(out, matches, token)
        else:
            out = view.replaced(matches, token, used)
            used = view.index(used)
            self._inside = view.ends_inside(used)
        self._before = shown[max(0, end - self._reach) : end]
        self._held = [raw[used:]] if used < len(raw) else []
        self._size = self._seen = len(raw) - used
        self._wait = self._size + _STEP if self._size > _STEP else 0
        return out

    def _own(self, shown: str, found: Sequence[Match]) -> Sequence[Match]:
        offset = len(self._before)
        matches: Sequence[Match] = [
            match for match in found if match.start >= offset or (self._cut_in_two and match.end > offset)
        ]
        if matches:
            self._placeholders.see(shown)
            matches = self._placeholders.but_own(shown, matches)
        return matches


class Chain:
    """One transform after the other: first masking, then opening: what is opened is not searched."""

    opening = ""

    def __init__(self, first: TextTransform, second: TextTransform) -> None:
        self._first, self._second = first, second

    @property
    def holds(self) -> bool:
        return self._first.holds or self._second.holds

    def feed(self, text: str) -> str:
        return self._second.feed(self._first.feed(text))

    def flush(self) -> str:
        return self._second.feed(self._first.flush()) + self._second.flush()


def answer_transform(
    detector: Detector | None,
    placeholders: Placeholders,
    answer: AnswerPlaceholders | None,
    *,
    json: bool = False,
) -> TextTransform:
    """For one text of an answer: what is masked in it, if there is a detector, then opened."""
    restorer = Restorer(placeholders, json=json)
    if detector is None or answer is None:
        return restorer
    return Chain(Masker(detector, answer, json=json), restorer)
