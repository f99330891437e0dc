"""What the parts of ``privacy`` say to each other. All of them are pure and synchronous."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(slots=True)
class Match:
    """Personal data in a text, from ``start`` up to ``end`` (indices of ``str``); ``score`` from 0 to 1."""

    start: int
    end: int
    entity: str
    score: float = 1.0


Counts = defaultdict[str, int]
"""How often each entity, or each kind of content, occurred."""


def no_counts() -> Counts:
    return defaultdict(int)


def added(first: Counts, second: Counts) -> dict[str, int]:
    """Of what is in either."""
    return {name: first.get(name, 0) + second.get(name, 0) for name in (*first, *second)}


class DetectorFailed(Exception):
    """A detector crashed, returned nonsense, or ran out of its time; the message says which. ``partial``:
    what was found in the text all the same, in order and without overlaps."""

    def __init__(self, message: str, partial: Sequence[Match] = ()) -> None:
        super().__init__(message)
        self.partial = list(partial)


class PartlyFailed(DetectorFailed):
    """In some of several texts; ``found``: what was found in each of them all the same."""

    def __init__(self, message: str, found: list[list[Match]]) -> None:
        super().__init__(message)
        self.found = found


class TooManyFinds(DetectorFailed):
    """There is more personal data than is searched for at once: the same text fails again."""


class Blocked(Exception):
    """Personal data that must not pass; ``entity`` says of which kind."""

    def __init__(self, entity: str) -> None:
        super().__init__(f"The text holds personal data that must not pass ({entity}).")
        self.entity = entity


class DetectorUnusable(ValueError):
    """A detector cannot be built; the message says why and what to do."""


class Detector(Protocol):
    """Looks at texts by one policy (entities, threshold, allow and deny lists, own recognisers).

    Local: whether a stretch of text is a match depends on nothing further away than ``reach`` characters
    before it and behind it, so that a stream can be searched as it comes.
    """

    entities: frozenset[str]
    reach: int

    def find(self, text: str) -> list[Match]:
        """The matches in ``text``, in order and without overlaps; raises ``DetectorFailed``.

        Time is linear in the length of ``text``.
        """
        ...

    def settled(self, text: str) -> int:
        """How much of ``text`` can be decided already, whatever is appended to it: the index behind
        which a match may lie, begin, or grow. ``find`` of that part gives the same matches as ``find``
        of any continuation does for it. As large as it can be told cheaply."""
        ...
