"""Redacting whole bodies: every text that a table knows, found at once, edited in place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from gateway.privacy.interface import Detector, Match
from gateway.privacy.json_text import JsonText, escaped
from gateway.privacy.placeholders import (
    LITERAL,
    AnswerPlaceholders,
    Placeholders,
    substitute,
    with_literals,
)
from gateway.privacy.slots import JSON, KEEP, OPENAI_ANSWER, OPENAI_REQUEST, TOKENS, Rule, Shape, Skip

_LONG_NUMBER = 10**6


class Slot(NamedTuple):
    """A string in a body: ``holder[key]``, or the name ``key`` itself of a field of ``holder``."""

    holder: Any
    key: Any
    text: str
    is_json: bool = False
    is_name: bool = False

    def put(self, text: str) -> None:
        if not self.is_name:
            self.holder[self.key] = text
            return
        items = [(text if key == self.key else key, value) for key, value in self.holder.items()]
        self.holder.clear()
        self.holder.update(items)


@dataclass(slots=True)
class Report:
    """``counts``: how often each entity was found; ``skipped``: kinds of content that were not searched, by
    how often they occurred."""

    counts: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)


class Texts:
    """The slots of a body, found by a table."""

    def __init__(self, native: dict[str, Any], table: Shape) -> None:
        self.slots: list[Slot] = []
        self.skipped: Counter[str] = Counter()
        self._object(native, table)

    def _object(self, value: dict[str, Any], shape: Shape) -> None:
        fields = shape.fields
        for name, held in value.items():
            rule = fields.get(name)
            if rule is None:
                self._text(value, name, held)
            elif rule is not KEEP:
                self._by_rule(value, name, held, rule)

    def _by_rule(self, holder: Any, key: Any, value: Any, rule: Rule) -> None:
        if type(value) is str and not isinstance(rule, Skip):
            self.slots.append(Slot(holder, key, value, rule is JSON))
        elif isinstance(rule, Skip):
            self._skip(value, rule)
        elif rule is TOKENS and type(value) is list and value and type(value[0]) is not str:
            self.skipped["token_ids"] += 1
        elif not isinstance(rule, Shape):
            self._text(holder, key, value)
        elif type(value) is dict:
            self._object(value, rule)
        elif type(value) is list:
            for position, item in enumerate(value):
                self._by_rule(value, position, item, rule)

    def _skip(self, value: Any, rule: Skip) -> None:
        if value is None:
            return
        self.skipped[rule.kind] += 1
        if type(value) is dict:
            for name, inner in rule.but.items():
                if name in value:
                    self._by_rule(value, name, value[name], inner)

    def _text(self, holder: Any, key: Any, value: Any) -> None:
        """Every string in ``value``, which is ``holder[key]``."""
        if type(value) is str:
            self.slots.append(Slot(holder, key, value))
        elif type(value) is dict:
            for name, held in value.items():
                self.slots.append(Slot(value, name, name, is_name=True))
                self._inner(value, name, held)
        elif type(value) is list:
            for position, item in enumerate(value):
                self._inner(value, position, item)

    def _inner(self, holder: Any, key: Any, value: Any) -> None:
        """Like ``_text``, for what is no setting of the API: long numbers count too, and become strings."""
        if type(value) is int and abs(value) >= _LONG_NUMBER:
            self.slots.append(Slot(holder, key, str(value)))
        else:
            self._text(holder, key, value)


def redact_body(
    native: dict[str, Any], detector: Detector, placeholders: Placeholders, table: Shape = OPENAI_REQUEST
) -> Report:
    """Replaces what ``detector`` finds in ``native``, in place. Raises ``DetectorFailed``, and has changed
    nothing then."""
    texts = Texts(native, table)
    report = Report(skipped=texts.skipped)
    found = _find(texts.slots, detector, literals=True)
    for one in found:
        report.counts.update(match.entity for match in one.matches if match.entity != LITERAL)
        placeholders.count(one.matches)
    if placeholders.replaces:
        _write(found, placeholders.token)
    return report


def mask_answer(
    native: dict[str, Any], detector: Detector, answer: AnswerPlaceholders, table: Shape = OPENAI_ANSWER
) -> Counter[str]:
    """Masks what a provider wrote itself in a buffered answer, in place; returns what was skipped."""
    texts = Texts(native, table)
    found = _find(texts.slots, detector)
    for one in found:
        one.matches = answer.but_own(one.text, one.matches)
    _write(found, answer.token)
    return texts.skipped


def restore_body(native: dict[str, Any], placeholders: Placeholders, table: Shape = OPENAI_ANSWER) -> None:
    """Puts the values back into a buffered answer, in place."""
    for slot in reversed(Texts(native, table).slots):
        if "[" in slot.text:
            restored = placeholders.restore(slot.text, escaped if slot.is_json else str)
            if restored != slot.text:
                slot.put(restored)


@dataclass(slots=True)
class _Found:
    slot: Slot
    view: JsonText | None
    text: str
    matches: list[Match]


def _find(slots: list[Slot], detector: Detector, *, literals: bool = False) -> list[_Found]:
    """The slots that hold something, in the order of the body."""
    views = [JsonText(slot.text) if slot.is_json else None for slot in slots]
    texts = [view.text if view else slot.text for slot, view in zip(slots, views, strict=True)]
    quiet = getattr(detector, "quiet", None)
    if quiet is not None and quiet(texts) and not (literals and any("[" in text for text in texts)):
        return []
    found: list[_Found] = []
    for slot, view, text in zip(slots, views, texts, strict=True):
        matches = detector.find(text)
        if literals:
            matches = with_literals(text, matches)
        if matches:
            found.append(_Found(slot, view, text, matches))
    return found


def _write(found: list[_Found], token: Callable[[str, str], str]) -> None:
    written = [(one.slot, _replaced(one, token)) for one in found]
    for slot, text in sorted(
        written, key=lambda item: item[0].is_name
    ):  # values first: they go by the old names
        if text != slot.text:
            slot.put(text)


def _replaced(one: _Found, token: Callable[[str, str], str]) -> str:
    if one.view is None:
        return substitute(one.text, one.matches, token)
    return one.view.replaced(one.matches, token, len(one.text))
