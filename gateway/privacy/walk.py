"""Redacting whole bodies: every text that a table knows, found at once, edited in place."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import Any, NamedTuple

from gateway.privacy.interface import Blocked, DetectorFailed, Match, no_counts
from gateway.privacy.json_text import JsonText
from gateway.privacy.kept import USUAL, USUAL_COUNTS, Keep, digits, long_number, only_ids
from gateway.privacy.placeholders import AnswerPlaceholders, Placeholders, substitute
from gateway.privacy.restoring import restored_json
from gateway.privacy.slots import (
    JSON,
    OPENAI_ANSWER,
    OPENAI_REQUEST,
    TOKENS,
    Rule,
    Shape,
    Skip,
    Typed,
)

_WORD = re.compile(r"[a-z_]{1,64}")
_NUMBERED = re.compile(r"[a-z_]{1,64}|[0-9]{1,6}")


class Slot(NamedTuple):
    """A string in a body: ``holder[key]``, or the name ``key`` itself of a field of ``holder``."""

    holder: Any
    key: Any
    text: str
    is_json: bool = False
    is_name: bool = False


class Texts:
    """The slots of a body, found by a table."""

    def __init__(self) -> None:
        self.slots: list[Slot] = []
        self.skipped = no_counts()

    def object(self, value: dict[str, Any], shape: Shape) -> None:
        fields = shape.fields
        for name, held in value.items():
            rule = fields.get(name)
            if rule is None:
                self.name(value, name)
                self._text(value, name, held)
            elif type(rule) is not Keep:
                self.by_rule(value, name, held, rule)
            elif held is not None and (type(held) is not str or held not in USUAL):
                self._kept(value, name, held, rule)

    def name(self, holder: dict[str, Any], name: str) -> None:
        """Of a field that no table has. A plain word is left: the API may know it."""
        if not _WORD.fullmatch(name):
            self.slots.append(Slot(holder, name, name, is_name=True))

    def by_rule(self, holder: Any, key: Any, value: Any, rule: Rule) -> None:
        if isinstance(rule, Keep):
            self._kept(holder, key, value, rule)
        elif type(value) is str and not isinstance(rule, Skip):
            self.slots.append(Slot(holder, key, value, rule is JSON))
        elif isinstance(rule, Skip):
            self._skip(value, rule)
        elif rule is TOKENS and type(value) is list and only_ids(value):
            self.skipped["token_ids"] += 1
        elif isinstance(rule, Typed) and type(value) is dict:
            self.by_rule(holder, key, value, rule.of(value))
        elif not isinstance(rule, Shape | Typed):
            self._text(holder, key, value)
        elif isinstance(rule, Shape) and type(value) is dict:
            self.object(value, rule)
        elif type(value) is list:
            for position, item in enumerate(value):
                self.by_rule(value, position, item, rule)
        else:
            self._text(holder, key, value)

    def _kept(self, holder: Any, key: Any, value: Any, rule: Keep) -> None:
        if rule.holds(value):
            return
        if type(value) is list:
            for position, item in enumerate(value):
                self._kept(value, position, item, rule)
        elif type(value) is dict and rule.numbers:
            for name, held in value.items():
                if name not in USUAL_COUNTS and not _NUMBERED.fullmatch(name):
                    self.slots.append(Slot(value, name, name, is_name=True))
                self._kept(value, name, held, rule)
        else:
            self._text(holder, key, value)

    def _skip(self, value: Any, rule: Skip) -> None:
        if value is None:
            return
        self.skipped[rule.kind] += 1
        if type(value) is dict:
            for name, inner in rule.but.items():
                if name in value:
                    self.by_rule(value, name, value[name], inner)

    def _text(self, holder: Any, key: Any, value: Any) -> None:
        """Every string in ``value``, which is ``holder[key]``, and every long number, which becomes a
        string where something is found in it."""
        if type(value) is str:
            self.slots.append(Slot(holder, key, value))
        elif type(value) is dict:
            for name, held in value.items():
                self.slots.append(Slot(value, name, name, is_name=True))
                self._text(value, name, held)
        elif type(value) is list:
            for position, item in enumerate(value):
                self._text(value, position, item)
        elif long_number(value):
            self.slots.append(Slot(holder, key, digits(value)))


class Body:
    """The texts of a body, to be searched anywhere, and edited by what was found.

    ``texts``: as they read, in the order of the body. ``skipped``: how often each kind of content occurs
    that is not searched. What was found is one list of matches for each of the texts, in order and without
    overlaps, or an empty list where nothing was found in any. Raises ``DetectorFailed`` for a body that is
    nested too deeply.
    """

    __slots__ = ("_native", "_slots", "_views", "skipped", "texts")

    def __init__(self, native: dict[str, Any], table: Shape = OPENAI_REQUEST) -> None:
        found = _texts(native, table)
        self.skipped = found.skipped
        self.texts = [slot.text for slot in found.slots]
        self._native, self._slots = native, found.slots
        self._views: dict[int, JsonText] = {}
        for place, slot in enumerate(found.slots):
            if slot.is_json:
                view = self._views[place] = JsonText(slot.text)
                self.texts[place] = view.text

    def redact(self, found: Sequence[Sequence[Match]], placeholders: Placeholders) -> None:
        """Replaces what was found, in place, and counts it. Raises ``Blocked`` for what must not pass, and
        has changed nothing then."""
        blocked: str | None = None
        for matches in found:
            if matches:
                placeholders.count(matches)
                blocked = blocked or placeholders.blocked(matches)
        if blocked is not None:
            raise Blocked(blocked)
        if placeholders.replaces and (found or any("[" in text for text in self.texts)):
            all_found = found or [()] * len(self.texts)
            pairs = zip(self.texts, all_found, strict=True)
            self._write([placeholders.edits(text, matches) for text, matches in pairs], placeholders.token)

    def mask(
        self,
        found: Sequence[Sequence[Match]],
        answer: AnswerPlaceholders,
        *,
        drop_logprobs: bool = False,
    ) -> None:
        """Masks what a provider wrote itself in a buffered answer, in place. Raises ``Blocked``, and has
        changed nothing then."""
        if found:
            for text in self.texts:
                answer.see(text)
            pairs = zip(self.texts, found, strict=True)
            own = [answer.but_own(text, matches) if matches else matches for text, matches in pairs]
            self._write(own, answer.token)
        if drop_logprobs:
            without_logprobs(self._native)

    def _write(self, edits: Sequence[Sequence[Match]], token: Callable[[str, str], str]) -> None:
        write(
            [
                (self._slots[place], self._replaced(place, matches, token))
                for place, matches in enumerate(edits)
                if matches
            ]
        )

    def _replaced(self, place: int, matches: Sequence[Match], token: Callable[[str, str], str]) -> str:
        view, text = self._views.get(place), self.texts[place]
        if view is None:
            return substitute(text, matches, token)
        return view.replaced(matches, token, len(text))


def restore_body(native: dict[str, Any], placeholders: Placeholders, table: Shape = OPENAI_ANSWER) -> None:
    """Puts the values back into a buffered answer, in place. Raises ``DetectorFailed`` for one that is
    nested too deeply."""
    write([(slot, _restored(slot, placeholders)) for slot in _texts(native, table).slots])


def _restored(slot: Slot, placeholders: Placeholders) -> str:
    return restored_json(slot.text, placeholders) if slot.is_json else placeholders.restore(slot.text)


def write(edited: Sequence[tuple[Slot, str]]) -> bool:
    """Puts texts into their slots; returns whether anything has changed. Names come last, since values go
    by the old ones, and those of an object at once, since one may be what another was."""
    changed = [(slot, text) for slot, text in edited if text != slot.text]
    renamed: dict[int, tuple[dict[str, Any], dict[str, str]]] = {}
    for slot, text in changed:
        if slot.is_name:
            renamed.setdefault(id(slot.holder), (slot.holder, {}))[1][slot.key] = text
        else:
            slot.holder[slot.key] = text
    for holder, names in renamed.values():
        items = list(holder.items())
        holder.clear()
        for name, value in items:
            holder[_free(names.get(name, name), holder)] = value
    return bool(changed)


def _free(name: str, taken: Mapping[str, Any]) -> str:
    """``name``, or one like it that nothing else in the object has: no field is lost."""
    if name not in taken:
        return name
    return next(other for n in count(2) if (other := f"{name} ({n})") not in taken)


def without_logprobs(native: dict[str, Any]) -> None:
    """Drops the probabilities of tokens, which are pieces of the text."""
    for name in ("choices", "output"):
        items = native.get(name)
        for item in items if type(items) is list else ():
            if type(item) is not dict:
                continue
            parts = item.get("content")
            for holder in (item, *(parts if type(parts) is list else ())):
                if type(holder) is dict and holder.get("logprobs") is not None:
                    holder["logprobs"] = None


def _texts(native: dict[str, Any], table: Shape) -> Texts:
    found = Texts()
    try:
        found.object(native, table)
    except RecursionError:
        raise DetectorFailed("the body is nested too deeply") from None
    return found
