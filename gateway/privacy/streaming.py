"""Answers as they come: text in pieces, cut anywhere, with the same result as the whole text.

Each transform takes pieces of one text (``feed``), returns what may go out, and at the end the rest
(``flush``).
"""

from __future__ import annotations

from typing import Protocol

from gateway.privacy.interface import Detector, Match
from gateway.privacy.json_text import JsonText, escaped, unfinished
from gateway.privacy.placeholders import LONGEST, AnswerPlaceholders, Placeholders, substitute

_EAGER = 256
"""Up to so many characters held back are looked at with every piece, more of them when they have grown by
an eighth: so that a text without any break costs linear time."""

_STEP = 64
"""Characters between two looks at a text of which more than so many are held back: a list of numbers."""


class TextTransform(Protocol):
    def feed(self, text: str) -> str: ...

    def flush(self) -> str: ...


class Restorer:
    """Puts the values back; holds back nothing but the beginning of a placeholder of this exchange.

    ``json``: the text is JSON, values go into its strings.
    """

    def __init__(self, placeholders: Placeholders, *, json: bool = False) -> None:
        self._placeholders = placeholders
        self._spell = escaped if json else str
        self._held = ""

    def feed(self, text: str) -> str:
        held = self._held + text if self._held else text
        opening = held.rfind("[")
        if opening < 0:
            return held
        if self._placeholders.begins(held[opening:]):
            self._held = held[opening:]
            held = held[:opening]
        else:
            self._held = ""
        return self._placeholders.restore(held, self._spell)

    def flush(self) -> str:
        held, self._held = self._held, ""
        return held


class Masker:
    """Masks what the provider wrote itself; holds back what the detector has not settled.

    Placeholders of this exchange stay. ``json``: the text is JSON and stays valid.
    """

    def __init__(self, detector: Detector, placeholders: AnswerPlaceholders, *, json: bool = False) -> None:
        self._detector = detector
        self._placeholders = placeholders
        self._json = json
        self._reach = max(detector.reach, LONGEST)
        self._inside = False
        self._before = ""
        self._held: list[str] = []
        self._size = self._wait = 0

    def feed(self, text: str) -> str:
        self._held.append(text)
        self._size += len(text)
        if self._size < self._wait or not text:
            return ""
        raw = "".join(self._held)
        view = JsonText(raw[: unfinished(raw)], self._inside) if self._json else None
        shown = self._before + (view.text if view else raw)
        end = self._detector.settled(shown)
        if end <= len(self._before):
            self._held = [raw]
            self._wait = self._size + self._size // 8 if self._size > _EAGER else 0
            return ""
        return self._settle(raw, view, shown, end)

    def flush(self) -> str:
        raw = "".join(self._held)
        if not raw:
            return ""
        view = JsonText(raw, self._inside) if self._json else None
        shown = self._before + (view.text if view else raw)
        return self._settle(raw, view, shown, len(shown))

    def _settle(self, raw: str, view: JsonText | None, shown: str, end: int) -> str:
        """Lets out what of ``raw`` lies before ``end``, an index of ``shown``."""
        offset = len(self._before)
        matches = [
            Match(match.start - offset, match.end - offset, match.entity)
            for match in self._found(shown[:end])
        ]
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
        self._size = len(raw) - used
        self._wait = self._size + _STEP if self._size > _STEP else 0
        return out

    def _found(self, shown: str) -> list[Match]:
        offset = len(self._before)
        matches = [match for match in self._detector.find(shown) if match.start >= offset]
        return self._placeholders.but_own(shown, matches) if matches else matches


class Chain:
    """One transform after the other: first masking, then opening: what is opened is not searched."""

    def __init__(self, first: TextTransform, second: TextTransform) -> None:
        self._first, self._second = first, second

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
