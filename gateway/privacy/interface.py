"""What the parts of ``privacy`` say to each other. All of them are pure and synchronous."""

from __future__ import annotations

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


class DetectorFailed(Exception):
    """A detector crashed, returned nonsense, or ran out of its time; the message says which."""


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


class Replacer(Protocol):
    """What stands instead of the matches of one exchange: placeholders, hashes, or nothing at all."""

    def replace(self, text: str, matches: Sequence[Match]) -> str: ...
