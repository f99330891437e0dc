"""What looks for entities, in one shape: a recogniser of Presidio, one of the tenant's own, a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from gateway.privacy.interface import Match
from gateway.privacy.presidio_pieces import Piece, segments, windows
from gateway.privacy.presidio_repairs import Repair
from gateway.privacy.recognisers import OwnRecogniser, compile_linear

Run = Callable[[str], list[Match]]

_DIGITS = r"\p{Nd}"
# What must stand in a text for the recogniser to find anything; how far around it the recogniser must look.
TRIGGERS: dict[str, tuple[str, int | None]] = {
    "EMAIL_ADDRESS": ("@", 64),
    "CREDIT_CARD": (r"\d(?:[ -]?\d){11,}", 8),
    "IBAN_CODE": (r"[A-Z]{2}\d{2}[ -]?[A-Z0-9]{4}", 64),
    "IP_ADDRESS": (r"\d\.\d{1,3}\.\d|:[0-9A-Fa-f]{0,4}:", 64),
    "US_SSN": (r"\d{3}[-. ]?\d{2}[-. ]?\d", 16),
    "URL": (r"[A-Za-z0-9-]\.[A-Za-z]", None),
    "CRYPTO": (r"[13][A-Za-z0-9]{25}|bc1", 64),
    "MAC_ADDRESS": (r"[0-9A-Fa-f]{2}[:.-][0-9A-Fa-f]{2}", 32),
    "DATE_TIME": (r"\d[-/.][\dA-Za-z]|[A-Za-z]{3}-\d", 32),
}
NUMBERED = (_DIGITS, None)


@dataclass(slots=True)
class Finder:
    """``run`` gives the raw matches of a text. ``context``: words near by that speak for a match.

    ``trigger``: a compiled pattern without which there is no match; ``margin``: how many characters around
    it are enough to see, or None for all of the text. ``repair`` judges each match by the text around it.
    ``whole_text``: a match may cross lines. ``gated``: may be left out where the gate sees nothing.
    ``folded``: also looks at what lines with odd characters look like.
    """

    name: str
    entities: frozenset[str]
    run: Run
    language: str = "en"
    context: tuple[str, ...] = ()
    trigger: Any = None
    margin: int | None = None
    whole_text: bool = False
    gated: bool = True
    folded: bool = True
    repair: Repair | None = None

    def find(self, text: str) -> Iterator[Match]:
        """The raw matches of ``text``, without those that a cut at the rim of a window has made."""
        if self.trigger is None:
            yield from self.run(text)
        elif self.margin is None:
            if self.trigger.search(text) is not None:
                yield from self.run(text)
        else:
            spots = (found.span() for found in self.trigger.finditer(text))
            for window in windows(text, spots, self.margin):
                yield from within(window, text, self.run)


def within(piece: Piece, text: str, run: Run) -> Iterator[Match]:
    """What ``run`` finds in ``piece`` of ``text``, placed in ``text``, without short ones at a cut."""
    part = text if piece.end - piece.start == len(text) else text[piece.start : piece.end]
    for match in run(part):
        at_cut = (piece.cut_before and match.start == 0) or (piece.cut_behind and match.end == len(part))
        if at_cut and match.end - match.start < 64:
            continue
        yield Match(match.start + piece.start, match.end + piece.start, match.entity, match.score)


def trigger(pattern: str) -> Any:
    """``pattern`` compiled in linear time."""
    return compile_linear(pattern, "trigger")


def own_finder(recogniser: OwnRecogniser, language: str, multi_line: bool = False) -> Finder:
    """A tenant's recogniser; looks at each line and sentence by itself unless ``multi_line``."""

    def by_segment(text: str) -> list[Match]:
        if not recogniser.find(text):
            return []
        return [
            Match(match.start + start, match.end + start, match.entity, match.score)
            for start, end in segments(text)
            for match in recogniser.find(text[start:end])
        ]

    return Finder(
        name=recogniser.name,
        entities=frozenset({recogniser.entity}),
        run=recogniser.find if multi_line else by_segment,
        language=language,
        context=recogniser.languages.get(language, ()),
        whole_text=multi_line,
        gated=False,
    )
