"""What this process and a child say to each other: descriptions of detectors, texts, matches."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import fields
from typing import Any

from gateway.privacy.interface import Match
from gateway.privacy.policy import DetectorSpec

MOST_MATCHES = 20_000
"""In one question."""
TOO_MANY = f"more than {MOST_MATCHES} finds"
MOST_ANSWER_BYTES = 4 << 20

_SURROGATE = re.compile("[\ud800-\udfff]")
_FIELDS = 4


class Nonsense(Exception):
    """An answer that cannot be; the message holds no part of it."""


def pack_spec(spec: DetectorSpec) -> dict[str, Any]:
    return {field.name: getattr(spec, field.name) for field in fields(spec) if field.init}


def unpack_spec(packed: dict[str, Any]) -> DetectorSpec:
    described: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in packed.items()
    }
    return DetectorSpec(**described)


def encodable(text: str) -> str:
    """``text`` with each lone surrogate as U+FFFD: of the same length, and it can be written as UTF-8."""
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


def pack_matches(matches: Iterable[Match]) -> list[Any]:
    """Start, end, entity and score of each, in one list."""
    packed: list[Any] = []
    for match in matches:
        packed += (match.start, match.end, match.entity, match.score)
    return packed


def unpack_matches(packed: object, chars: int, entities: Collection[str]) -> list[Match]:
    """Raises ``Nonsense`` for what is not a list of matches, in order and without overlaps, of
    ``entities`` in a text of ``chars`` characters."""
    if not isinstance(packed, list) or len(packed) % _FIELDS:
        raise Nonsense("the detector's answer is no list of matches")
    quarters = (packed[at::_FIELDS] for at in range(_FIELDS))
    matches = [Match(*four) for four in zip(*quarters, strict=True)]
    check(matches, chars, entities)
    return matches


def check(matches: Sequence[Match], chars: int, entities: Collection[str]) -> None:
    """Raises ``Nonsense``."""
    place = 0
    for match in matches:
        typed = type(match.start) is int and type(match.end) is int and isinstance(match.entity, str)
        typed = typed and type(match.score) in (int, float)
        if not typed or not place <= match.start < match.end <= chars or not 0 <= match.score <= 1:
            raise Nonsense("the detector gave a match that cannot be")
        if match.entity not in entities:
            raise Nonsense("the detector gave a match of an entity that it does not look for")
        place = match.end
