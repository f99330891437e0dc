"""The coverage matrix: it says what the tables say, and what the walk over a body does."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, get_args

import pytest

from gateway.edge.asgi import POSTS
from gateway.privacy.coverage import (
    DIRECTIONS,
    REST,
    TABLES,
    Direction,
    Part,
    Status,
    Tables,
    coverage_events,
    matrix,
    parts,
)
from gateway.privacy.slots import KEEP, TEXT, TOKENS, Rule, Shape, Skip, Typed
from gateway.privacy.walk import Body

MARK = "a_mark"  # what is kept looks like a name
CHAT, COMPLETIONS, EMBEDDINGS = "/v1/chat/completions", "/v1/completions", "/v1/embeddings"
_STEP = re.compile(r"([^\[]+)(?:\[(?:type=)?(.*)\])?")


def entries(rule: Rule, under: str = "") -> Iterator[tuple[str, Rule]]:
    """Every entry of a table that is no object, with its path."""
    if isinstance(rule, Shape):
        for name, inner in rule.fields.items():
            yield from entries(inner, f"{under}.{name}".removeprefix("."))
    elif isinstance(rule, Typed):
        for kind, inner in rule.types.items():
            yield from entries(inner, f"{under}[type={kind}]")
        yield from entries(rule.rest, under)
    else:
        yield under, rule
        if isinstance(rule, Skip):
            yield from entries(Shape(rule.but), under)


def body_with(part: Part) -> dict[str, Any]:
    """A body that holds the mark at the path of ``part``, and nothing else."""
    value: Any = [1, 2] if part.note == "(token ids)" else MARK
    steps = [step for step in part.path.split(".") if step]
    if part.is_rest:
        steps.append("what_nobody_has_heard_of")
    for step in reversed(steps):
        found = _STEP.fullmatch(step)
        assert found is not None
        name, kind = found[1], found[2]
        if kind:
            value = {**(value if isinstance(value, dict) else {"x": value}), "type": kind}
        value = {name: value if kind is None else [value]}
    assert isinstance(value, dict)
    return value


def with_request(fields: Mapping[str, Rule]) -> Tables:
    """The tables with another one for requests, which all routes share."""
    changed: Mapping[Direction, Shape] = {**TABLES[CHAT], "request": Shape(fields)}
    return dict.fromkeys(TABLES, changed)


def with_fields(**more: Rule) -> Tables:
    return with_request({**TABLES[CHAT]["request"].fields, **more})


def statuses(name: str, direction: Direction = "request", tables: Tables = TABLES) -> dict[str, Status]:
    """Of a part, by route."""
    found = {
        (route, part.name): part.status
        for route, directions in matrix(tables).items()
        for part in directions[direction]
    }
    return {route: status for (route, known), status in found.items() if known == name}


def everything() -> list[tuple[Direction, Shape, Part]]:
    """Every part of every table, once."""
    found = {
        (direction, part.name, id(table)): (direction, table, part)
        for directions in TABLES.values()
        for direction, table in directions.items()
        for part in parts(table, "messages[].content user suffix metadata.topic")
    }
    return list(found.values())


def test_the_routes_are_those_that_are_served() -> None:
    assert set(TABLES) == set(POSTS)
    assert all(matrix()[route][direction] for route in POSTS for direction in DIRECTIONS)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("route", TABLES)
def test_every_entry_of_a_table_appears_once(route: str, direction: Direction) -> None:
    table = TABLES[route][direction]
    told = [part.path.replace("[]", "") for part in parts(table) if not part.is_rest]
    in_table = [path for path, rule in entries(table) for _ in range(2 if rule == TOKENS else 1)]
    assert len(in_table) > 10
    assert sorted(told) == sorted(in_table)


def test_every_part_is_at_one_route_at_least_and_nowhere_twice() -> None:
    found = matrix()
    for direction in DIRECTIONS:
        at_routes = {part.name for directions in found.values() for part in directions[direction]}
        for route, directions in found.items():
            names = [part.name for part in directions[direction]]
            assert len(names) == len(set(names)), route
            assert {part.name for part in parts(TABLES[route][direction])} <= at_routes


@pytest.mark.parametrize("direction, table, part", everything(), ids=str)
def test_what_it_says_is_what_the_walk_does(direction: Direction, table: Shape, part: Part) -> None:
    body = Body(body_with(part), table)
    assert (MARK in body.texts) == (part.status == "searched")
    assert bool(body.skipped) == (part.status == "not searched" or "not searched" in _above(table, part))


def _above(table: Shape, part: Part) -> set[Status]:
    """Of the parts that hold this one."""
    return {other.status for other in parts(table) if part.path.startswith(f"{other.path}.")}


def test_a_new_entry_shows_up_at_every_route() -> None:
    tables = with_fields(scan=Skip("scan", {"label": TEXT}))
    assert statuses("scan") == {}
    assert statuses("scan", tables=tables) == dict.fromkeys(TABLES, "not searched")
    assert statuses("scan.label", tables=tables) == dict.fromkeys(TABLES, "searched")


def test_an_entry_for_what_was_under_the_rule_for_others() -> None:
    assert statuses("user") == dict.fromkeys(TABLES, "searched")
    tables = with_fields(user=KEEP)
    assert statuses("user", tables=tables) == dict.fromkeys(TABLES, "kept")
    assert [part.name for part in matrix(tables)[CHAT]["request"]].count("user") == 1


def test_objects_of_several_types() -> None:
    typed = Typed({"scan": Shape({"bytes": Skip("scan")}), "id": KEEP}, Shape({"name": KEEP}))
    tables = with_fields(things=typed)
    found = [part for part in matrix(tables)[EMBEDDINGS]["request"] if part.path.startswith("things")]
    assert [(part.name, part.status) for part in found] == [
        ("things[type=scan].bytes", "not searched"),
        ("things[type=id]", "kept"),
        ("things.name", "kept"),
        (f"things[type=scan] {REST}", "searched"),
        (f"things {REST}", "searched"),
    ]


def test_an_entry_that_is_gone_is_searched() -> None:
    fields = {name: rule for name, rule in TABLES[CHAT]["request"].fields.items() if name != "messages"}
    tables = with_request(fields)
    assert statuses("messages[].role", tables=tables) == {}
    assert statuses("messages[].content", tables=tables) == {CHAT: "searched"}


def test_a_route_with_a_table_of_its_own_has_all_of_it() -> None:
    own = {"request": Shape({"input": KEEP}), "answer": Shape({"choices": KEEP})}
    found = matrix({**TABLES, "/v1/other": own})["/v1/other"]  # type: ignore[dict-item]
    assert [(part.name, part.status) for part in found["request"]] == [
        ("input", "kept"),
        (REST, "searched"),
    ]
    assert [part.name for part in found["answer"]] == ["choices", REST]


@pytest.mark.parametrize(
    "name, at",
    {
        "messages[].content": {CHAT: "searched"},
        "messages[].content[].text": {CHAT: "searched"},
        "messages[].content[].image_url": {CHAT: "not searched"},
        "messages[].content[].input_audio": {CHAT: "not searched"},
        "messages[].content[].file": {CHAT: "not searched"},
        "messages[].content[].file.filename": {CHAT: "searched"},
        "messages[].tool_calls[].function.arguments": {CHAT: "searched"},
        "messages[].tool_calls[].function.name": {CHAT: "kept"},
        "tools[].function.description": {CHAT: "searched"},
        "metadata": {CHAT: "searched"},
        "user": dict.fromkeys(TABLES, "searched"),
        "model": dict.fromkeys(TABLES, "kept"),
        "prompt (text)": {COMPLETIONS: "searched"},
        "prompt (token ids)": {COMPLETIONS: "not searched"},
        "input (text)": {EMBEDDINGS: "searched"},
        "input (token ids)": {EMBEDDINGS: "not searched"},
    }.items(),
)
def test_requests(name: str, at: dict[str, Status]) -> None:
    assert statuses(name) == at


@pytest.mark.parametrize(
    "name, at",
    {
        "choices[].message.content": {CHAT: "searched"},
        "choices[].delta.content": {CHAT: "searched"},
        "choices[].text": {COMPLETIONS: "searched"},
        "choices[].logprobs": {CHAT: "not searched", COMPLETIONS: "not searched"},
        "data[].embedding": {EMBEDDINGS: "not searched (numbers)"},
        "usage": dict.fromkeys((CHAT, COMPLETIONS), "kept") | {EMBEDDINGS: "not searched (numbers)"},
        REST: {CHAT: "searched", COMPLETIONS: "searched", EMBEDDINGS: "not searched (numbers)"},
    }.items(),
)
def test_answers(name: str, at: dict[str, Status]) -> None:
    assert statuses(name, "answer") == at


def test_one_event_for_each_route() -> None:
    events = coverage_events()
    assert [event["route"] for event in events] == list(TABLES)
    for event in events:
        found = matrix()[event["route"]]
        for direction in DIRECTIONS:
            for status in get_args(Status):
                name = status.replace(" ", "_").replace("(", "").replace(")", "")
                said = event.get(f"{direction}_{name}", "")
                assert sorted(names_in(said)) == sorted(
                    part.name for part in found[direction] if part.status == status
                )


def names_in(said: str) -> Iterator[str]:
    """Of the parts that an event names."""
    for listed in said.split("; ") if said else ():
        holders, _, names = listed.rpartition(": ")
        for holder in holders.split(", "):
            under = "" if holder == "body" else holder
            for name in names.split(", "):
                yield f"{under} {REST}".strip() if name == "all else" else f"{under}.{name}".strip(".")
