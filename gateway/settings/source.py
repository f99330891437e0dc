"""YAML files to nodes with lines, without a single guess about types.

Taken is the plain part of YAML: mappings with text keys, lists, scalars, and anchors with aliases and
``<<`` where they only save typing. Everything else is a fault with its line.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import yaml

MAX_DEPTH = 32
MAX_FILE_BYTES = 4 << 20

try:
    from yaml import CSafeLoader as _Loader
except ImportError:  # PyYAML built without libyaml
    from yaml import SafeLoader as _Loader  # type: ignore[assignment]

_NULLS = ("", "~", "null", "Null", "NULL")


@dataclass(slots=True)
class Scalar:
    """``text`` None: no value."""

    line: int
    text: str | None
    plain: bool


@dataclass(slots=True)
class Items:
    line: int
    values: list[Node] = field(default_factory=list)


@dataclass(slots=True)
class Entries:
    line: int
    pairs: list[tuple[Scalar, Node]] = field(default_factory=list)


Node = Scalar | Items | Entries


class SourceFault(Exception):
    """A file that cannot be read as configuration."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line
        self.message = message


def read(content: bytes) -> Node | None:
    """The file's root, None for a file of comments only. Raises ``SourceFault``."""
    if len(content) > MAX_FILE_BYTES:
        raise SourceFault(1, f"is larger than {MAX_FILE_BYTES} bytes")
    if not content.strip():
        raise SourceFault(1, "is empty; write the configuration into it, or remove it")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise SourceFault(line, "is not UTF-8 text") from None
    try:
        return _Composer(text).document()
    except yaml.MarkedYAMLError as error:
        raise SourceFault(*_explain(error, text)) from None
    except yaml.YAMLError as error:
        line = text.count("\n", 0, getattr(error, "position", 0)) + 1
        raise SourceFault(line, "is not valid YAML: a character is not allowed") from None


def _explain(error: yaml.MarkedYAMLError, text: str) -> tuple[int, str]:
    mark = error.problem_mark or error.context_mark
    what = ", ".join(part for part in (error.problem, error.context) if part)
    last = len(text.rstrip().splitlines())  # what is not closed is missed behind the end
    return (min(mark.line + 1, last) if mark else 1), f"is not valid YAML: {what}"


class _Composer:
    """Events to nodes. Nothing here recurses deeper than ``MAX_DEPTH``."""

    def __init__(self, text: str) -> None:
        self._events = yaml.parse(text, Loader=_Loader)
        self._anchors: dict[str, Node | None] = {}

    def document(self) -> Node | None:
        root: Node | None = None
        documents = 0
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise SourceFault(_line(event), "has a second document; one file holds one")
                root = self._node(next(self._events), 0)
        return None if isinstance(root, Scalar) and root.text is None else root

    def _node(self, event: yaml.Event, depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise SourceFault(_line(event), f"is nested deeper than {MAX_DEPTH} levels")
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        assert isinstance(event, yaml.NodeEvent)
        if getattr(event, "tag", None) is not None:
            raise SourceFault(_line(event), "tags (such as !!str) are not used here; remove the tag")
        if event.anchor is not None:
            if event.anchor in self._anchors:
                raise SourceFault(_line(event), f"anchor &{event.anchor} is defined twice")
            self._anchors[event.anchor] = None
        node = self._content(event, depth)
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _alias(self, event: yaml.AliasEvent) -> Node:
        if event.anchor not in self._anchors:
            raise SourceFault(_line(event), f"alias *{event.anchor} has no anchor before it")
        node = self._anchors[event.anchor]
        if node is None:
            raise SourceFault(_line(event), f"alias *{event.anchor} stands inside its own anchor")
        return node

    def _content(self, event: yaml.Event, depth: int) -> Node:
        if isinstance(event, yaml.ScalarEvent):
            plain = not event.style
            empty = plain and event.value in _NULLS
            return Scalar(_line(event), None if empty else event.value, plain)
        if isinstance(event, yaml.SequenceStartEvent):
            items = Items(_line(event))
            while not isinstance(item := next(self._events), yaml.SequenceEndEvent):
                items.values.append(self._node(item, depth + 1))
            return items
        entries = Entries(_line(event))
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key = self._node(event, depth + 1)
            if not isinstance(key, Scalar):
                raise SourceFault(key.line, "a key must be text")
            entries.pairs.append((key, self._node(next(self._events), depth + 1)))
        return entries


def _line(event: yaml.Event) -> int:
    assert event.start_mark is not None
    return event.start_mark.line + 1
