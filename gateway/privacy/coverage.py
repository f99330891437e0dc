"""What is searched for personal data, by route and part of a body: read from the tables of ``slots``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from gateway.privacy.kept import Keep
from gateway.privacy.slots import (
    KEEP,
    OPENAI_ANSWER,
    OPENAI_REQUEST,
    TEXT,
    TOKENS,
    Rule,
    Shape,
    Skip,
    Typed,
)

Direction = Literal["request", "answer"]
Status = Literal["searched", "kept", "not searched", "not searched (numbers)"]
"""``kept``: names, numbers and choices that a provider compares. ``not searched``: refused, or passed, as
the policy's ``uncovered`` says. With ``(numbers)``: passed, since the whole of it is numbers."""
Tables = Mapping[str, Mapping[Direction, Shape]]

_NO_NAME = re.compile(r"[^a-z ]")
BODY = "body"
REST = "(anything else)"
DIRECTIONS: tuple[Direction, ...] = ("request", "answer")
_OPENAI: Mapping[Direction, Shape] = {"request": OPENAI_REQUEST, "answer": OPENAI_ANSWER}
TABLES: Tables = {
    "/v1/chat/completions": _OPENAI,
    "/v1/completions": _OPENAI,
    "/v1/embeddings": _OPENAI,
}
"""Of every route that takes a body."""

_CHAT, _COMPLETIONS, _EMBEDDINGS = TABLES
_UNSCREENED = frozenset({_EMBEDDINGS})
"""Their answers are numbers."""
# Fields of tables for several routes that only some of them have; what is not named here all have.
_OF_ROUTE: Mapping[str, frozenset[str]] = {
    **dict.fromkeys(
        """
        messages tools functions tool_choice function_call response_format prediction audio modalities
        reasoning_effort verbosity service_tier prompt_cache_retention metadata max_completion_tokens
        top_logprobs
        choices[].message choices[].delta
        """.split(),
        frozenset({_CHAT}),
    ),
    **dict.fromkeys(
        """
        stream stream_options logit_bias stop choices system_fingerprint obfuscation max_tokens seed
        temperature top_p top_k min_p n logprobs frequency_penalty presence_penalty repetition_penalty
        """.split(),
        frozenset({_CHAT, _COMPLETIONS}),
    ),
    **dict.fromkeys(("prompt", "suffix", "best_of", "echo", "choices[].text"), frozenset({_COMPLETIONS})),
    **dict.fromkeys(("input", "encoding_format", "dimensions", "data"), frozenset({_EMBEDDINGS})),
}
# Well-known parts that a table may leave to its rule for all others: their status is looked up in it.
_COMMON = "user safety_identifier prompt_cache_key"
_WELL_KNOWN: Mapping[tuple[str, Direction], str] = {
    (_CHAT, "request"): f"""
        messages[].content messages[].content[].text messages[].content[].refusal messages[].name
        messages[].refusal messages[].reasoning_content messages[].tool_calls[].custom.input
        tools[].function.description tools[].function.parameters functions[].description
        functions[].parameters response_format.json_schema.schema prediction.content
        stop metadata {_COMMON}
    """,
    (_CHAT, "answer"): """
        choices[].message.content choices[].message.refusal choices[].message.reasoning_content
        choices[].delta.content choices[].delta.refusal choices[].delta.reasoning_content
        choices[].logprobs
    """,
    (_COMPLETIONS, "request"): f"suffix stop {_COMMON}",
    (_COMPLETIONS, "answer"): "choices[].text choices[].logprobs",
    (_EMBEDDINGS, "request"): _COMMON,
}
_BESIDE_TABLES: Mapping[str, Status] = {"choices[].logprobs": "not searched"}
_LISTS = frozenset(
    """
    messages content tool_calls tools functions choices data images reasoning_details thinking_blocks
    """.split()
)


@dataclass(frozen=True, slots=True)
class Part:
    """``path``: of fields, ``[]`` for the items of a list, ``[type=…]`` for those of a type; ``note`` says
    which values are meant."""

    path: str
    status: Status
    note: str = ""

    @property
    def name(self) -> str:
        return f"{self.path} {self.note}".strip()

    @property
    def is_rest(self) -> bool:
        """All fields of the object at ``path`` that are no parts themselves."""
        return self.note == REST


def matrix(tables: Tables = TABLES) -> dict[str, dict[Direction, list[Part]]]:
    """By route: the parts of its requests and answers, each once."""
    return {
        route: {direction: _of_route(route, direction, tables) for direction in DIRECTIONS}
        for route in tables
    }


def parts(table: Shape, well_known: str = "") -> list[Part]:
    """What ``table`` says, and ``well_known`` paths that it does not name."""
    told = list(_told(table, ""))
    names = {part.path for part in told if not part.is_rest}
    more = [Part(path, _looked_up(table, path)) for path in well_known.split() if path not in names]
    return _beside([*told, *more])


def by_holder(parts: Iterable[Part]) -> dict[str, dict[Status, list[str]]]:
    """The fields of each object, by status; objects that hold nothing but others are there, too."""
    found: dict[str, dict[Status, list[str]]] = {"": {}}
    for part in parts:
        holder = part.path if part.is_rest else part.path.rpartition(".")[0]
        pieces = holder.split(".") if holder else []
        for length in range(1, len(pieces) + 1):
            found.setdefault(".".join(pieces[:length]), {})
        name = "all else" if part.is_rest else f"{part.path.rpartition('.')[2]} {part.note}".strip()
        found[holder].setdefault(part.status, []).append(name)
    return found


def coverage_events() -> list[dict[str, str]]:
    """For the log at the start: one for each route, its parts by direction and status, as
    ``body: field, field; object, object: field``."""
    return [{"route": route, **_compact(found)} for route, found in matrix().items()]


def _compact(found: Mapping[Direction, list[Part]]) -> dict[str, str]:
    told: dict[str, dict[str, list[str]]] = {}
    for direction, listed in found.items():
        for holder, cells in by_holder(listed).items():
            for status, names in cells.items():
                holders = told.setdefault(f"{direction}_{_NO_NAME.sub('', status).replace(' ', '_')}", {})
                holders.setdefault(", ".join(names), []).append(holder or BODY)
    return {
        name: "; ".join(f"{', '.join(holders)}: {names}" for names, holders in one.items())
        for name, one in told.items()
    }


def _of_route(route: str, direction: Direction, tables: Tables) -> list[Part]:
    table = tables[route][direction]
    shared = sum(other[direction] is table for other in tables.values()) > 1
    found = parts(table, _WELL_KNOWN.get((route, direction), ""))
    mine = [part for part in found if not shared or route in _routes(part.path, tables)]
    if direction == "answer" and route in _UNSCREENED:
        return [replace(part, status="not searched (numbers)") for part in mine]
    return mine


def _told(shape: Shape, under: str) -> Iterator[Part]:
    for name, rule in shape.fields.items():
        yield from _by_rule(f"{under}{name}", rule, "[]" if name in _LISTS else "")
    yield Part(under.removesuffix("."), "searched", REST)


def _by_rule(path: str, rule: Rule, items: str) -> Iterator[Part]:
    """``items``: what follows ``path`` where the items of a list are meant."""
    if isinstance(rule, Shape):
        yield from _told(rule, f"{path}{items}.")
    elif isinstance(rule, Typed):
        for kind, one in rule.types.items():
            yield from _by_rule(f"{path}[type={kind}]", one, "")
        yield from _by_rule(f"{path}{items}", rule.rest, "")
    elif isinstance(rule, Skip):
        yield Part(path, "not searched")
        for inner, searched in rule.but.items():
            yield from _by_rule(f"{path}.{inner}", searched, "[]" if inner in _LISTS else "")
    elif rule == TOKENS:
        yield Part(path, "searched", "(text)")
        yield Part(path, "not searched", "(token ids)")
    else:
        yield Part(path, "kept" if isinstance(rule, Keep) else "searched")


def _looked_up(table: Shape, path: str) -> Status:
    """Of a path that no entry ends in: what becomes of a string there."""
    if path in _BESIDE_TABLES:
        return _BESIDE_TABLES[path]
    rule: Rule = table
    for name in path.replace("[]", "").split("."):
        while isinstance(rule, Typed):
            rule = rule.rest
        if isinstance(rule, Shape):
            rule = rule.fields.get(name, TEXT)
        elif isinstance(rule, Skip):
            rule = rule.but.get(name, KEEP)
    if isinstance(rule, Skip):
        return "not searched"
    return "kept" if isinstance(rule, Keep) else "searched"


def _beside(found: list[Part]) -> list[Part]:
    """Every part next to those under the same field, in the order of first appearance."""
    heads = {head: place for place, head in reversed(list(enumerate(_head(part) for part in found)))}
    order = sorted(found, key=lambda part: (heads[_head(part)], part.is_rest))
    rest = [part for part in order if part.is_rest and not part.path]
    return [part for part in order if part not in rest] + rest


def _head(part: Part) -> str:
    return part.path.partition(".")[0].partition("[")[0]


def _routes(path: str, tables: Tables) -> frozenset[str]:
    pieces = path.split(".")
    for length in range(len(pieces), 0, -1):
        prefix = ".".join(pieces[:length])
        routes = _OF_ROUTE.get(prefix) or _OF_ROUTE.get(prefix.removesuffix("[]"))
        if routes is not None:
            return routes
    return frozenset(tables)
