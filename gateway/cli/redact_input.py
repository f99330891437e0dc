"""What ``llm-gateway redact`` is given: a text, or the body of a request."""

from __future__ import annotations

import re
import sys
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import typer

from gateway.cli.redact_options import Kind
from gateway.privacy.slots import OPENAI_REQUEST, TEXT, Shape
from gateway.privacy.walk import Body, Texts

BODY_FIELDS = ("messages", "prompt", "input", "system")
NAME = " (name)"
"""Ends the path of a field whose name itself is meant."""
STANDARD_INPUT = "-"
_MAX_DEPTH = 64
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_UTF_8_MARK = b"\xef\xbb\xbf"
_TEXT = Shape({"text": TEXT})


@dataclass(slots=True)
class Document:
    """``native``: the body; of a text a body that holds nothing else. ``places``: of each of its texts."""

    kind: Kind
    native: dict[str, Any]
    body: Body
    places: list[str] = field(default_factory=list)
    _lines: list[int] = field(default_factory=list)

    @property
    def redacted(self) -> str | dict[str, Any]:
        if self.kind is Kind.JSON:
            return self.native
        text = self.native["text"]
        assert isinstance(text, str)
        return text

    @property
    def model(self) -> str:
        """That a body asks for; empty for none."""
        model = self.native.get("model") if self.kind is Kind.JSON else None
        return model if isinstance(model, str) else ""

    def place(self, text: int, start: int) -> str:
        """Where ``start`` of the text number ``text`` is: a path, or line:column, both from 1."""
        if self.kind is Kind.JSON:
            return self.places[text]
        line = bisect_right(self._lines, start)
        return f"{line}:{start - self._lines[line - 1] + 1}"


def read(file: str, kind: Kind | None) -> Document:
    """``file``: a path, or ``-``; ``kind`` None: as it looks. Ends the command where it cannot be read."""
    name = "standard input" if file == STANDARD_INPUT else file
    text = _decoded(name, _raw(file))
    body = None if kind is Kind.TEXT else _parsed(name, text, kind is Kind.JSON)
    if body is None:
        native = {"text": text}
        starts = [0, *(found.end() for found in re.finditer("\n", text))]
        return Document(Kind.TEXT, native, Body(native, _TEXT), [], starts)
    found = Body(body, OPENAI_REQUEST)
    return Document(Kind.JSON, body, found, _places(body))


def unreadable(sentence: str) -> typer.Exit:
    """To raise: one line on standard error, and exit code 2."""
    typer.echo(f"error: {sentence}", err=True)
    return typer.Exit(2)


def _raw(file: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if file == STANDARD_INPUT else Path(file).read_bytes()
    except IsADirectoryError:
        raise unreadable(f"{file} is a folder; name a file in it") from None
    except OSError as error:
        raise unreadable(f"{file} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise unreadable(f"{file!r} cannot be read: {error}") from None


def _decoded(name: str, raw: bytes) -> str:
    if raw.startswith(_UTF_16):
        raise unreadable(f"{name} is UTF-16; convert it first: iconv -f UTF-16 -t UTF-8")
    try:
        text = raw.removeprefix(_UTF_8_MARK).decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        byte = raw[error.start]
        raise unreadable(
            f"{name} is not UTF-8 text: byte 0x{byte:02x} at offset {error.start} (line {line})"
        ) from None
    if "\0" in text:
        raise unreadable(f"{name} is not text: it holds a NUL at offset {raw.index(0)}")
    return text


def _parsed(name: str, text: str, wanted: bool) -> dict[str, Any] | None:
    """The body in ``text``; None where it does not look like one and none is ``wanted``."""
    if not wanted and not text.lstrip().startswith("{"):
        return None
    try:
        native = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        if wanted:
            raise unreadable(f"{name} is not JSON: {error}") from None
        typer.echo(f"note: {name} is read as text; it begins like JSON, but is not: {error}", err=True)
        return None
    if not isinstance(native, dict):
        raise unreadable(f"{name} is JSON, but no object, as the body of a request is")
    if not wanted and not any(one in native for one in BODY_FIELDS):
        return None
    if any(depth > _MAX_DEPTH for depth, *_ in _containers(native)):
        raise unreadable(f"{name} is nested deeper than {_MAX_DEPTH} levels, which the gateway refuses")
    return native


def _places(native: dict[str, Any]) -> list[str]:
    """The paths of the texts, as in ``messages[0].content``."""
    texts = Texts()
    texts.object(native, OPENAI_REQUEST)
    paths = {id(value): path for _, path, value in _containers(native)}
    return [
        f"{_under(paths[id(slot.holder)], slot.key)}{NAME if slot.is_name else ''}" for slot in texts.slots
    ]


def _containers(native: dict[str, Any]) -> Iterator[tuple[int, str, Any]]:
    """Depth, path and value of every object and list."""
    left: list[tuple[int, str, Any]] = [(1, "", native)]
    while left:
        depth, path, value = left.pop()
        yield depth, path, value
        if depth <= _MAX_DEPTH:
            items = value.items() if isinstance(value, dict) else enumerate(value)
            left += [
                (depth + 1, _under(path, key), held) for key, held in items if isinstance(held, dict | list)
            ]


def _under(path: str, key: str | int) -> str:
    if isinstance(key, int):
        return f"{path}[{key}]"
    return f"{path}.{key}".removeprefix(".")
