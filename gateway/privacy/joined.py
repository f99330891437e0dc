"""Two detectors as one."""

from __future__ import annotations

from collections.abc import Callable

from gateway.privacy.interface import Detector, DetectorFailed, Match
from gateway.privacy.placeholders import merged

ROUNDS = 16
"""How often two detectors are asked where both may cut."""


class Joined:
    """A ``Detector`` of what either finds; where both find something, one match covers both."""

    def __init__(self, first: Detector, second: Detector) -> None:
        self._first, self._second = first, second
        self.entities = first.entities | second.entities
        self.reach = max(first.reach, second.reach)

    def find(self, text: str) -> list[Match]:
        found: list[Match] = []
        failed: DetectorFailed | None = None
        for detector in (self._first, self._second):
            try:
                found += detector.find(text)
            except DetectorFailed as fault:
                found += fault.partial
                failed = fault
        if failed is not None:
            raise DetectorFailed(str(failed), merged(found)) from failed
        return merged(found)

    def settled(self, text: str) -> int:
        return agreed(self._first.settled, self._second.settled, text)


def agreed(first: Callable[[str], int], second: Callable[[str], int], text: str) -> int:
    """A place where both may cut: what ``first`` has settled is cut off, and ``second`` must have settled
    all of it, or the next place is one further to the left."""
    end = len(text)
    for _ in range(ROUNDS):
        place = first(text[:end])
        inside = second(text[:place])
        if inside == place:
            return place
        end = min(inside + 1, place - 1)
    return 0
