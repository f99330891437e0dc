"""Texts in which nothing is ever settled are cut all the same, so that they cost no more than others."""

from __future__ import annotations

from gateway.privacy.interface import Detector, Match


def cut_by_force(detector: Detector, text: str, lead: int) -> tuple[list[Match], int]:
    """What is found in front of a cut, and where that is: as far from the end as the detector looks ahead,
    and in no match, unless it would not be behind ``lead`` then: such a match is cut in two, to be found
    again in the rest. ``text`` is longer than ``lead`` and twice the detector's reach."""
    matches = detector.find(text)
    end = len(text) - detector.reach
    for match in reversed(matches):
        if match.start <= end < match.end and match.start > lead:
            end = match.start
    return [
        Match(match.start, min(match.end, end), match.entity, match.score)
        for match in matches
        if match.start < end
    ], end
