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


def _given(value: Any) -> bool:
    values = value.values() if isinstance(value, dict) else value
    return bool(values) and any(one is not None for one in values)


def _more_than_one(value: Any) -> bool:
    return isinstance(value, str) and value.isascii() and value.isdigit() and int(value[:18]) > 1


def _not_memory(value: Any) -> bool:
    return isinstance(value, str) and not value.startswith("memory://")


_TABLE: tuple[tuple[str, Test, str], ...] = (
    ("server.workers", _more_than_one, "more than one worker"),
    ("storage.url", _not_memory, "storage other than memory://"),
    ("providers.*.kind", _other_than(*KINDS), "a kind other than openai and simulated"),
    ("models.*.cache.mode", _other_than("off"), "caching"),
    ("models.*.degrade.mode", _other_than("none", "message"), "answering from a stale cache"),
    ("models.*.on_cut", _other_than("fail"), "continuing after a cut"),
    ("tenants.*.limits", _given, "limiting rates"),
    ("tenants.*.model_limits", _given, "limiting rates"),
    ("tenants.*.budget", _given, "budgets"),
    ("tenants.*.redaction.mode", _other_than("off"), "redaction"),
    ("tenants.*.on_disconnect", _other_than("abort"), "draining after a disconnect"),
    ("tenants.*.on_storage_loss.limits", _other_than("local_share"), "choosing this"),
    ("tenants.*.on_storage_loss.budget", _other_than("lease"), "choosing this"),
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
