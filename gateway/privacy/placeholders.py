"""What stands instead of personal data in one exchange, and the way back."""

from __future__ import annotations

import hashlib
import hmac
import re
import sys
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence

from gateway.privacy.interface import Blocked, Match, no_counts
from gateway.privacy.policy import Actions

LITERAL = "LITERAL"
FORM = re.compile(r"\[[A-Z][A-Z0-9_]{0,63}_[0-9a-f]{1,64}\]")
"""Every placeholder has this form, and what has it in a text that comes in is replaced itself, as LITERAL:
so nobody can forge one."""

LONGEST = 160
"""Characters, more than a placeholder has."""
_NO_NAME = re.compile(r"[^A-Z0-9_]")
_HASH_DIGITS = 12
_REPLACING = frozenset({"mask", "restore", "hash"})


class Placeholders:
    """Of one exchange, by what is done about each entity. ``mask`` and ``restore`` number the values of an
    entity as they come: equal requests get equal placeholders. ``hash`` is a keyed HMAC-SHA256, equal over
    all requests with the same key. ``flag`` and ``block`` replace nothing. ``counts``: how often each
    entity was found. Raises ``ValueError`` for a key of fewer than 16 bytes where it is needed."""

    def __init__(self, actions: Actions, hash_key: bytes = b"") -> None:
        if actions.any("hash") and len(hash_key) < 16:
            raise ValueError("the action hash needs a key of 16 bytes or more")
        self.actions = actions
        self.replaces = actions.any("mask", "restore", "hash")
        self.counts = no_counts()
        self._key = hash_key
        self._numbers = no_counts()
        self._of_value: dict[tuple[str, str], str] = {}
        self._values: dict[str, str] = {}
        self._open: dict[str, str] = {}
        self._held: dict[str, str] = {}
        self._sorted: list[str] = []

    @property
    def restores(self) -> bool:
        """Whether there is anything to open on the way back: values, or literals, which are the client's
        own text in any case."""
        return bool(self._open)

    def replace(self, text: str, found: Sequence[Match]) -> str:
        """``text`` with placeholders for what was ``found`` in it, which is counted, and for literals."""
        self.count(found)
        edits = self.edits(text, found)
        return substitute(text, edits, self.token) if edits else text

    def count(self, found: Sequence[Match]) -> None:
        for match in found:
            self.counts[match.entity] += 1

    def blocked(self, found: Sequence[Match]) -> str | None:
        """The first entity that must not pass, if there is one."""
        of = self.actions.of
        return next((match.entity for match in found if of(match.entity) == "block"), None)

    def edits(self, text: str, found: Sequence[Match]) -> list[Match]:
        """What is replaced in ``text``: what was ``found`` in order and without overlaps, where its action
        says so, and literals."""
        if not self.replaces:
            return []
        of = self.actions.of
        return with_literals(text, [match for match in found if of(match.entity) in _REPLACING])

    def token(self, entity: str, value: str) -> str:
        """What is written instead of a value: the placeholder that it has already, or a new one, or
        the value itself."""
        token = self._of_value.get((entity, value))
        if token is not None:
            return token
        if not self._replaced(entity):
            return value
        token = self._of_value[entity, value] = self.fresh(entity, value)
        self._values[token] = value
        if self._opens(entity):
            self._open[token] = value
        return token

    def known(self, entity: str, value: str) -> str | None:
        """The placeholder that a value has already, unless ``restore`` opens it."""
        token = self._of_value.get((entity, value))
        return None if token is None or token in self._open else token

    def fresh(self, entity: str, value: str) -> str:
        """A new placeholder that ``restore`` does not open, for a value that has none."""
        name = _name(entity)
        if entity != LITERAL and self.actions.of(entity) == "hash":
            message = entity.encode() + b"\0" + value.encode("utf-8", "surrogatepass")
            digest = hmac.new(self._key, message, hashlib.sha256).hexdigest()
            token = f"[{name}_{digest[:_HASH_DIGITS]}]"
            return token if token not in self._values else f"[{name}_{digest}]"
        self._numbers[name] += 1
        return f"[{name}_{self._numbers[name]}]"

    def value(self, token: str) -> str | None:
        """What a placeholder of this exchange stands for."""
        return self._values.get(token)

    def held(self, value: str) -> str | None:
        """The placeholder of a ``value`` that was replaced in this exchange and comes back."""
        if len(self._held) != len(self._open):
            self._held = {value: token for token, value in self._open.items()}
        return self._held.get(value)

    def digest(self) -> bytes:
        """Of all that was replaced, in order: tells requests apart that differ in nothing else. Empty where
        nothing was."""
        if not self._of_value:
            return b""
        digest = hmac.new(self._key, digestmod=hashlib.sha256)
        for pair in self._of_value:
            for part in pair:
                written = part.encode("utf-8", "surrogatepass")
                digest.update(b"%d:%b" % (len(written), written))
        return digest.digest()

    def restore(self, text: str, spell: Callable[[str], str] = str) -> str:
        """``text`` with the values instead of this exchange's placeholders, where that is the action;
        ``spell`` writes a value."""
        if not self._open or "[" not in text:
            return text
        return FORM.sub(lambda found: self._opened(found[0], spell), text)

    def begins(self, text: str) -> bool:
        """Whether ``text`` is the beginning of a placeholder that ``restore`` opens, and not all of it."""
        if len(self._sorted) != len(self._open):
            self._sorted = sorted(self._open)
        place = bisect_left(self._sorted, text)
        for token in self._sorted[place : place + 2]:
            if token != text:
                return token.startswith(text)
        return False

    def _replaced(self, entity: str) -> bool:
        return self.replaces if entity == LITERAL else self.actions.of(entity) in _REPLACING

    def _opens(self, entity: str) -> bool:
        return entity == LITERAL or self.actions.of(entity) == "restore"

    def _opened(self, token: str, spell: Callable[[str], str]) -> str:
        value = self._open.get(token)
        return token if value is None else spell(value)


class AnswerPlaceholders:
    """For what a provider writes. What the request held and the client gets back is written as in the
    request; all else gets what its action says, and placeholders that nobody can open. ``counts``: finds of
    each entity."""

    def __init__(self, request: Placeholders) -> None:
        self.request = request
        self.counts = no_counts()
        self._tokens: dict[tuple[str, str], str] = {}
        self._seen: set[str] = set()

    def see(self, text: str) -> None:
        """What the provider has written as a placeholder stands for nothing else."""
        if "[" in text:
            self._seen.update(FORM.findall(text))

    def token(self, entity: str, value: str) -> str:
        """What is written instead of ``value``; ``value`` itself if it may be seen. Raises ``Blocked``."""
        own = self.request.held(value)
        if own is not None:
            return own
        self.counts[entity] += 1
        action = self.request.actions.of(entity)
        if action == "flag":
            return value
        if action == "block":
            raise Blocked(entity)
        token = self._tokens.get((entity, value))
        if token is None:
            token = self.request.known(entity, value) or self._fresh(entity, value)
            self._tokens[entity, value] = token
        return token

    def _fresh(self, entity: str, value: str) -> str:
        token = self.request.fresh(entity, value)
        while token in self._seen and self.request.actions.of(entity) != "hash":
            token = self.request.fresh(entity, value)
        return token

    def but_own(self, text: str, matches: Sequence[Match]) -> Sequence[Match]:
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
    """In order, overlapping ones joined and named after the longest, but literals after what is in them."""
    result: list[Match] = []
    longest = 0
    for match in sorted(matches, key=lambda match: (match.start, -match.end)):
        size = match.end - match.start if match.entity != LITERAL else 0
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
