"""Nodes to plain data whose scalars are text, each with its line, variables substituted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.settings.faults import Faults, KeyPath, Place
from gateway.settings.source import MAX_DEPTH, Entries, Items, Node, Scalar
from gateway.settings.substitute import Unset, substitute

MAX_NODES = 200_000


@dataclass(slots=True)
class Tree:
    """``data``: dicts, lists, text and None. ``written``: scalars as they stand in the file, so that a
    message can show them without showing what a variable holds."""

    data: dict[str, Any] = field(default_factory=dict)
    written: dict[KeyPath, str] = field(default_factory=dict)

    def get(self, *path: str | int) -> Any:
        """What stands there, None if nothing does."""
        found: Any = self.data
        for part in path:
            if isinstance(found, dict) or (isinstance(found, list) and isinstance(part, int)):
                try:
                    found = found[part]  # type: ignore[index]
                except (KeyError, IndexError):
                    return None
            else:
                return None
        return found

    def section(self, *path: str | int) -> dict[str, Any]:
        """The mapping there, an empty one if something else is."""
        found = self.get(*path)
        return found if isinstance(found, dict) else {}

    def items(self, *path: str | int) -> list[Any]:
        """The list there, an empty one if something else is."""
        found = self.get(*path)
        return found if isinstance(found, list) else []


class TreeBuilder:
    """Adds files to a tree; faults go to ``faults``, whose places it fills."""

    def __init__(self, environ: Mapping[str, str], faults: Faults) -> None:
        self.tree = Tree()
        self._environ = environ
        self._faults = faults
        self._file = ""
        self._nodes = 0

    def add(self, file: str, root: Entries) -> None:
        self._file = file
        merged = self._pairs(root, ())
        for name, (key, node) in merged.items():
            path = (name,)
            if name in self.tree.data:
                first = self._faults.places[path]
                self._fault_at(key.line, path, f"is already in {first.file}:{first.line}")
                continue
            self._faults.places[path] = Place(file, key.line)
            self.tree.data[name] = self._value(node, path)

    def _value(self, node: Node, path: KeyPath) -> Any:
        if self._too_large(1, node.line, path):
            return None
        if len(path) > MAX_DEPTH:
            self._fault_at(node.line, path[:1], f"is nested deeper than {MAX_DEPTH} levels")
            return None
        if isinstance(node, Scalar):
            return self._text(node, path)
        if isinstance(node, Items):
            return [self._item(one, (*path, index)) for index, one in enumerate(node.values)]
        data: dict[str, Any] = {}
        for name, (key, value) in self._pairs(node, path).items():
            self._faults.places[(*path, name)] = Place(self._file, key.line)
            data[name] = self._value(value, (*path, name))
        return data

    def _item(self, node: Node, path: KeyPath) -> Any:
        self._faults.places[path] = Place(self._file, node.line)
        return self._value(node, path)

    def _text(self, node: Scalar, path: KeyPath) -> str | None:
        if node.text is None:
            return None
        self.tree.written[path] = node.text
        try:
            return substitute(node.text, self._environ)
        except Unset as unset:
            self._faults.add(path, str(unset))
            return ""

    def _pairs(self, node: Entries, path: KeyPath) -> dict[str, tuple[Scalar, Node]]:
        """The keys of a mapping: its own, then those that ``<<`` brings in."""
        own: dict[str, tuple[Scalar, Node]] = {}
        if self._too_large(len(node.pairs), node.line, path):
            return own
        merged: list[Entries] = []
        for key, value in node.pairs:
            if key.plain and key.text == "<<":
                merged += self._merged(key, value, path)
                continue
            name = key.text or ""
            if not name:
                self._fault_at(key.line, path, "a key is empty")
            elif name in own:
                first = own[name][0].line
                self._fault_at(key.line, (*path, name), f"is already in line {first}")
            else:
                own[name] = (key, value)
        for other in merged:
            if self._too_large(len(other.pairs), node.line, path):
                break
            for key, value in other.pairs:
                own.setdefault(key.text or "", (key, value))
        return own

    def _merged(self, key: Scalar, value: Node, path: KeyPath) -> list[Entries]:
        several = value.values if isinstance(value, Items) else [value]
        found = [one for one in several if isinstance(one, Entries)]
        if len(found) != len(several) or any(_has_merge(one) for one in found):
            wanted = "must name mappings that have no << of their own, such as *defaults"
            self._fault_at(key.line, (*path, "<<"), wanted)
            return []
        return found

    def _too_large(self, more: int, line: int, path: KeyPath) -> bool:
        """Counts what aliases and ``<<`` make of a small file."""
        before, self._nodes = self._nodes, self._nodes + more
        if before <= MAX_NODES < self._nodes:
            self._fault_at(line, path, f"makes the configuration larger than {MAX_NODES} values")
        return self._nodes > MAX_NODES

    def _fault_at(self, line: int, path: KeyPath, message: str) -> None:
        """A fault at a line that is not (or not only) the one of its path."""
        self._faults.add_at(Place(self._file, line), path, message)


def _has_merge(node: Entries) -> bool:
    return any(key.plain and key.text == "<<" for key, _ in node.pairs)
