"""Where text stands in a chunk of a streamed answer, and what goes on in the next chunk."""

from __future__ import annotations

from typing import Any, NamedTuple

from gateway.privacy.interface import DetectorFailed
from gateway.privacy.kept import Keep, digits, long_number
from gateway.privacy.slots import TEXT, WHOLE, Rule, Shape, Skip, Typed
from gateway.privacy.walk import Slot, Texts

_CONSTANT = frozenset({"type", "id", "index", "format", "role", "object", "mime_type"})
"""Fields of objects that nobody has heard of which are said again with every chunk."""


class Step(NamedTuple):
    """An item of a list: by its ``index`` (``number``), or, where it has none, by its place and type."""

    number: int | None
    place: int
    type: str | None


Path = tuple[str | Step, ...]
"""From a choice down to a text."""


class Piece(NamedTuple):
    """A piece of a running text: ``holder[key]``."""

    choice: int
    path: Path
    holder: Any
    key: Any
    text: str
    is_json: bool


class Call(NamedTuple):
    """A tool call, as far as a chunk names it. What was said at ``path`` before belongs to another one, if
    it had another name: some providers count all calls as the first, or do not count them."""

    choice: int
    path: Path
    id: str
    name: str
    place: int

    def follows(self, other: Call) -> bool:
        """Whether it is another one than ``other``, at the same path."""
        if self.place != other.place:
            return True
        if self.id and other.id:
            return self.id != other.id
        return bool(self.name and other.name and self.name != other.name)


class ChunkTexts(Texts):
    """``running``: pieces of texts that go on from chunk to chunk; ``slots``: texts that are complete;
    ``passed``: where a piece of what is not searched stands, and of which kind it is.

    Probabilities of tokens are neither. Raises ``DetectorFailed`` for a chunk that is nested too deeply.
    """

    def __init__(self, native: dict[str, Any], table: Shape) -> None:
        super().__init__()
        self.running: list[Piece | Call] = []
        self.passed: dict[tuple[int, Path], str] = {}
        self._number = 0
        try:
            self._chunk(native, table)
        except RecursionError:
            raise DetectorFailed("a chunk of the answer is nested too deeply") from None

    def _chunk(self, native: dict[str, Any], table: Shape) -> None:
        for name, held in native.items():
            rule = table.fields.get(name, TEXT)
            if name not in table.fields:
                self.name(native, name)
            if name != "choices" or type(held) is not list or not isinstance(rule, Shape):
                self.by_rule(native, name, held, rule)
                continue
            for place, choice in enumerate(held):
                if type(choice) is dict:
                    self._choice(choice, place, rule)
                else:
                    self.by_rule(held, place, choice, TEXT)

    def _choice(self, choice: dict[str, Any], place: int, shape: Shape) -> None:
        self._number = choice_number(choice, place)
        for name, held in choice.items():
            rule = shape.fields.get(name, TEXT)
            if name not in shape.fields:
                self.name(choice, name)
            if name == "delta" or name == "text":
                self._run(choice, name, held, rule, (name,))
            elif name != "logprobs":
                self.by_rule(choice, name, held, rule)

    def _run(self, holder: Any, key: Any, value: Any, rule: Rule, path: Path) -> None:
        if isinstance(rule, Typed) and type(value) is dict:
            rule = rule.of(value)
        if value is None:
            return
        if rule is WHOLE or isinstance(rule, Keep):
            self.by_rule(holder, key, value, rule)
        elif isinstance(rule, Skip):
            self.passed[self._number, path] = rule.kind
            for name, inner in rule.but.items() if type(value) is dict else ():
                if name in value:
                    self._run(value, name, value[name], inner, (*path, name))
        elif type(value) is str:
            self.running.append(Piece(self._number, path, holder, key, value, rule == "json"))
        elif type(value) is list:
            for place, item in enumerate(value):
                under = (*path, _step(place, item, rule))
                if type(item) is dict and is_call(rule):
                    self._call(item, under, place)
                self._run(value, place, item, rule, under)
        elif type(value) is dict:
            self._run_object(value, rule, path)
        elif long_number(value):
            self.slots.append(Slot(holder, key, digits(value)))

    def _call(self, item: dict[str, Any], path: Path, place: int) -> None:
        function = item.get("function")
        name = _string(function.get("name")) if type(function) is dict else ""
        named = _string(item.get("id"))
        if named or name:
            counted = type(item.get("index")) is int
            self.running.append(Call(self._number, path, named, name, 0 if counted else place))

    def _run_object(self, value: dict[str, Any], rule: Rule, path: Path) -> None:
        if isinstance(rule, Shape):
            for name, held in value.items():
                if name not in rule.fields:
                    self.name(value, name)
                self._run(value, name, held, rule.fields.get(name, TEXT), (*path, name))
            return
        for name, held in value.items():
            self.slots.append(Slot(value, name, name, is_name=True))
            self._run(value, name, held, WHOLE if name in _CONSTANT else TEXT, (*path, name))


def choice_number(choice: dict[str, Any], place: int) -> int:
    index = choice.get("index")
    return index if type(index) is int else place


def placed(path: Path, text: str) -> dict[str, Any]:
    """The fields of a choice that say nothing but ``text`` at ``path``."""
    value: Any = text
    for step in reversed(path):
        if isinstance(step, str):
            value = {step: value}
            continue
        if type(value) is dict:
            known = {"index": step.number, "type": step.type}
            value = {**{name: held for name, held in known.items() if held is not None}, **value}
        value = [value]
    return value  # type: ignore[no-any-return]


def is_call(rule: Rule) -> bool:
    """Whether these are tool calls, which have numbers, and say their type and id but once."""
    return isinstance(rule, Shape) and "index" in rule.fields and "function" in rule.fields


def _step(place: int, item: Any, rule: Rule) -> Step:
    if type(item) is not dict:
        return Step(None, place, None)
    index, kind = item.get("index"), item.get("type")
    if type(index) is int:
        return Step(index, 0, None)
    if is_call(rule):  # without a number it goes on with the last one
        return Step(None, 0, None)
    return Step(None, place, kind if type(kind) is str else None)


def _string(value: Any) -> str:
    return value if type(value) is str else ""
