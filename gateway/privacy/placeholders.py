"""What stands instead of personal data in one exchange, and the way back."""

from __future__ import annotations

import hashlib
import hmac
import re
import sys
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Literal

from gateway.privacy.interface import Match

Mode = Literal["mask", "hash", "flag", "block"]
LITERAL = "LITERAL"
FORM = re.compile(r"\[[A-Z][A-Z0-9_]{0,63}_[0-9a-f]{1,64}\]")
"""Every placeholder has this form, and what has it in a text that comes in is replaced itself, as LITERAL:
so nobody can forge one."""

LONGEST = 160
"""Characters, more than a placeholder has."""
_NO_NAME = re.compile(r"[^A-Z0-9_]")
_HASH_DIGITS = 12


class Placeholders:
    """Of one exchange. ``mask`` numbers the values of an entity as they come: equal requests get equal
    placeholders. ``hash`` is a keyed HMAC-SHA256, equal over all requests with the same key. ``flag`` and
    ``block`` replace nothing. ``counts``: how often each entity was found."""

    def __init__(self, mode: Mode = "mask", hash_key: bytes = b"") -> None:
        if mode == "hash" and len(hash_key) < 16:
            raise ValueError("mode hash needs a key of 16 bytes or more")
        self.mode = mode
        self.counts: Counter[str] = Counter()
        self._key = hash_key
        self._numbers: Counter[str] = Counter()
        self._of_value: dict[tuple[str, str], str] = {}
        self._values: dict[str, str] = {}
        self._held: frozenset[str] = frozenset()
        self._sorted: list[str] = []

    @property
    def replaces(self) -> bool:
        return self.mode in ("mask", "hash")

    def replace(self, text: str, matches: Sequence[Match]) -> str:
        """``text`` with placeholders for ``matches``, which are in order and do not overlap."""
        self.count(matches)
        if not matches or not self.replaces:
            return text
        return substitute(text, matches, self.token)

    def count(self, matches: Sequence[Match]) -> None:
        for match in matches:
            if match.entity != LITERAL:
                self.counts[match.entity] += 1

    def token(self, entity: str, value: str) -> str:
        """The placeholder of a value: the one that it has already, or a new one."""
        token = self._of_value.get((entity, value))
        if token is None:
            token = self.fresh(entity, value)
            self._of_value[entity, value] = token
            self._values[token] = value
        return token

    def fresh(self, entity: str, value: str) -> str:
        """A placeholder that ``restore`` does not open."""
        name = _name(entity)
        if self.mode == "hash" and entity != LITERAL:
            message = entity.encode() + b"\0" + value.encode("utf-8", "surrogatepass")
            digest = hmac.new(self._key, message, hashlib.sha256).hexdigest()
            token = f"[{name}_{digest[:_HASH_DIGITS]}]"
            return token if token not in self._values else f"[{name}_{digest}]"
        self._numbers[name] += 1
        return f"[{name}_{self._numbers[name]}]"

    def value(self, token: str) -> str | None:
        """What a placeholder of this exchange stands for."""
        return self._values.get(token)

    def holds(self, value: str) -> bool:
        """Whether ``value`` was replaced in this exchange."""
        if len(self._held) != len(self._values):
            self._held = frozenset(self._values.values())
        return value in self._held

    def restore(self, text: str, spell: Callable[[str], str] = str) -> str:
        """``text`` with the values instead of this exchange's placeholders; ``spell`` writes a value."""
        if not self._values or "[" not in text:
            return text
        return FORM.sub(lambda found: self._opened(found[0], spell), text)

    def begins(self, text: str) -> bool:
        """Whether ``text`` is the beginning of a placeholder of this exchange, and not all of it."""
        if len(self._sorted) != len(self._values):
            self._sorted = sorted(self._values)
        place = bisect_left(self._sorted, text)
        for token in self._sorted[place : place + 2]:
            if token != text:
                return token.startswith(text)
        return False

    def _opened(self, token: str, spell: Callable[[str], str]) -> str:
        value = self._values.get(token)
        return token if value is None else spell(value)


class AnswerPlaceholders:
    """For what a provider writes. What the request held stays where ``restore`` is on, since the client
    knows it; all else gets placeholders that nobody can open. ``counts``: finds of each entity."""

    def __init__(self, request: Placeholders, *, restore: bool) -> None:
        self.request = request
        self.counts: Counter[str] = Counter()
        self._restore = restore
        self._tokens: dict[tuple[str, str], str] = {}

    def token(self, entity: str, value: str) -> str:
        """What is written instead of ``value``; ``value`` itself if it may be seen."""
        if self._restore and self.request.holds(value):
            return value
        self.counts[entity] += 1
        if not self.request.replaces:
            return value
        if not self._restore:
            return self.request.token(entity, value)
        token = self._tokens.get((entity, value))
        if token is None:
            token = self._tokens[entity, value] = self.request.fresh(entity, value)
        return token

    def but_own(self, text: str, matches: list[Match]) -> list[Match]:
        """``matches`` in ``text`` without those inside placeholders of the request."""
        if "[" not in text:
            return matches
        own = [found.span() for found in FORM.finditer(text) if self.request.value(found[0]) is not None]
        return [match for match in matches if not _within(match, own)] if own else matches


def _within(match: Match, spans: list[tuple[int, int]]) -> bool:
    place = bisect_right(spans, (match.start, sys.maxsize)) - 1
    return place >= 0 and match.end <= spans[place][1]


def substitute(text: str, matches: Sequence[Match], written: Callable[[str, str], str]) -> str:
    """``text`` with ``written(entity, value)`` instead of ``matches``."""
    pieces: list[str] = []
    behind = 0
    for match in matches:
        value = text[match.start : match.end]
        pieces += (text[behind : match.start], written(match.entity, value))
        behind = match.end
    pieces.append(text[behind:])
    return "".join(pieces)


def with_literals(text: str, matches: list[Match]) -> list[Match]:
    """``matches`` and what has the form of a placeholder; what overlaps becomes one."""
    if "[" not in text:
        return matches
    literals = [Match(*found.span(), LITERAL) for found in FORM.finditer(text)]
    return merged([*matches, *literals]) if literals else matches


def merged(matches: Sequence[Match]) -> list[Match]:
    """In order, overlapping ones joined and named after the longest."""
    result: list[Match] = []
    longest = 0
    for match in sorted(matches, key=lambda match: (match.start, -match.end)):
        size = match.end - match.start
        if not result or match.start >= result[-1].end:
            result.append(Match(match.start, match.end, match.entity, match.score))
            longest = size
            continue
        last = result[-1]
        last.end = max(last.end, match.end)
        if size > longest:
            last.entity, last.score, longest = match.entity, match.score, size
    return result


def _name(entity: str) -> str:
    name = _NO_NAME.sub("_", entity.upper())[:64]
    return name if name[:1].isalpha() else f"X{name}"[:64]
