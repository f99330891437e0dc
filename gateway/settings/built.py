"""What the configuration knows and the gateway does not do yet: refused, never silently ignored.

Each line is deleted with the work that makes it true.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from gateway.settings.faults import Faults, KeyPath
from gateway.settings.tree import Tree

KINDS = ("openai", "simulated")

Test = Callable[[Any], bool]


def _other_than(*accepted: str) -> Test:
    """Written, and something else than what is accepted."""
    return lambda value: isinstance(value, str) and value not in accepted


_TABLE: tuple[tuple[str, Test, str], ...] = (
    ("providers.*.kind", _other_than(*KINDS), "a kind other than openai and simulated"),
    ("models.*.cache.mode", _other_than("off"), "caching"),
    ("models.*.degrade.mode", _other_than("none", "message"), "answering from a stale cache"),
)


def check_built(tree: Tree, faults: Faults) -> None:
    """Adds a fault wherever something is asked for that is not there yet."""
    for pattern, refused, what in _TABLE:
        for path, value in _matches(tree.data, pattern.split("."), ()):
            if refused(value):
                faults.add(path, f"{what} is not built yet")


def _matches(data: Any, pattern: list[str], path: KeyPath) -> Iterator[tuple[KeyPath, Any]]:
    if not pattern:
        yield path, data
    elif isinstance(data, dict):
        first, *rest = pattern
        for name in data if first == "*" else [first]:
            if name in data:
                yield from _matches(data[name], rest, (*path, name))
