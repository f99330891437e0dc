"""pydantic's errors as sentences with a place and, where one is near, the name that was meant."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args, get_origin

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from gateway.settings.faults import Faults, KeyPath, nearest, printable
from gateway.settings.root import Settings
from gateway.settings.section import Section
from gateway.settings.tree import Tree

_SECRET = frozenset(("admin_token", "api_key", "base_url", "proxy", "url", "hash", "hash_key"))
_QUOTELESS = ("extra_forbidden", "model_type", "dict_type", "tuple_type")
_NO_NAME = "must be 1 to 64 letters, digits or ._:/-"

_SENTENCES: dict[str, Callable[[dict[str, Any]], str]] = {
    "missing": lambda _: "is missing",
    "extra_forbidden": lambda _: "is not a known key",
    "model_type": lambda _: "must hold keys and values",
    "dict_type": lambda _: "must hold keys and values",
    "tuple_type": lambda _: "must be a list",
    "string_type": lambda _: "must be text",
    "string_unicode": lambda _: "must be UTF-8 text",
    "path_type": lambda _: "must be a path",
    "too_short": lambda _: "must not be empty",
    "string_too_short": lambda _: "must not be empty",
    "string_too_long": lambda c: f"must have at most {c['max_length']} characters",
    "greater_than": lambda c: f"must be more than {c['gt']:g}",
    "greater_than_equal": lambda c: f"must be at least {c['ge']:g}",
    "less_than_equal": lambda c: f"must be at most {c['le']:g}",
    "literal_error": lambda c: f"must be {c['expected']}",
    "value_error": lambda c: str(c["error"]),
}


def explain(error: ValidationError, tree: Tree, faults: Faults) -> None:
    """Adds every error as a fault."""
    for one in error.errors(include_url=False, include_input=False):
        path = one["loc"]
        if one["type"] == "too_short" and tree.items(*path):
            continue  # pydantic counts the valid items only; the others have faults of their own
        if path and path[-1] == "[key]":
            faults.add(path[:-1], f"the name {_sentence(one)}")
        else:
            faults.add(path, _sentence(one) + _as_written(one, path, tree), _hint(one, path, tree))


def _sentence(one: ErrorDetails) -> str:
    context = one.get("ctx", {})
    if one["type"] == "string_pattern_mismatch":
        is_hash = "sha256" in context["pattern"]
        return "must be sha256: and 64 lower-case hexadecimal digits" if is_hash else _NO_NAME
    sentence = _SENTENCES.get(one["type"])
    return sentence(context) if sentence else one["msg"]


def _as_written(one: ErrorDetails, path: KeyPath, tree: Tree) -> str:
    """The text of the file, never the value of a variable, nothing of a secret."""
    written = tree.written.get(path)
    if written is None or one["type"] in _QUOTELESS or _SECRET.intersection(path):
        return ""
    return f", not {printable(written)!r}"


def _hint(one: ErrorDetails, path: KeyPath, tree: Tree) -> str | None:
    if one["type"] == "extra_forbidden":
        section = section_at(path[:-1])
        return nearest(str(path[-1]), section.model_fields) if section else None
    if one["type"] == "literal_error" and path in tree.written:
        return nearest(tree.written[path], _choices(_annotation_at(path)))
    return None


def section_at(path: KeyPath) -> type[Section] | None:
    """The section that a path of the file leads to."""
    return _section(_annotation_at(path))


def _annotation_at(path: KeyPath) -> Any:
    here: Any = Settings
    for part in path:
        section = _section(here)
        if section is not None:
            field = section.model_fields.get(str(part))
            here = field.annotation if field else None
        else:
            here = _inner(here)
    return here


def _section(annotation: Any) -> type[Section] | None:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    if get_origin(annotation) in (dict, tuple, Literal):
        return None
    found = [_section(one) for one in get_args(annotation)]
    return next((one for one in found if one is not None), None)


def _inner(annotation: Any) -> Any:
    """What a mapping or a list (or an optional one) holds."""
    arguments = get_args(annotation)
    if get_origin(annotation) is dict:
        return arguments[1]
    if get_origin(annotation) is tuple:
        return arguments[0]
    return next((_inner(one) for one in arguments if get_origin(one) in (dict, tuple)), None)


def _choices(annotation: Any) -> list[str]:
    if get_origin(annotation) is Literal:
        return [str(one) for one in get_args(annotation)]
    return [choice for one in get_args(annotation) for choice in _choices(one)]
