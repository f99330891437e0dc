"""Derived state on disk: lines of JSON, replaced as a whole, and thrown away where they are damaged."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import orjson

LINE_ENTRIES = 500
"""Entries of a list that go into one line, so that no single call works for long."""


def write_snapshot(path: Path, lines: Iterable[Any]) -> None:
    """Writes ``lines``, and a last one that proves them; ``path`` holds all of it or what it held.

    Raises ``OSError``.
    """
    replace_file(path, _proved(lines))


def replace_file(path: Path, parts: Iterable[bytes]) -> None:
    """``path`` holds all of ``parts``, or what it held. Raises ``OSError``."""
    fresh = path.with_name(path.name + ".new")
    with open(fresh, "wb", opener=open_private) as file:
        for part in parts:
            file.write(part)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def _proved(lines: Iterable[Any]) -> Iterator[bytes]:
    checksum, count = 0, 0
    for line in lines:
        encoded = orjson.dumps(line) + b"\n"
        checksum, count = zlib.crc32(encoded, checksum), count + 1
        yield encoded
    yield orjson.dumps({"lines": count, "crc32": checksum}) + b"\n"


def open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def read_snapshot(path: Path) -> list[Any] | None:
    """The lines; None where there is no such file or it is not whole."""
    try:
        encoded = path.read_bytes().splitlines(keepends=True)
        *lines, last = encoded or [b"{}"]
        checksum = 0
        for line in lines:
            checksum = zlib.crc32(line, checksum)
        if orjson.loads(last) != {"lines": len(lines), "crc32": checksum}:
            return None
        return [orjson.loads(line) for line in lines]
    except (OSError, orjson.JSONDecodeError):
        return None


def in_lines(name: str, entries: Iterable[Any]) -> Iterable[Any]:
    """``[name, entries]`` a few at a time."""
    part: list[Any] = []
    for entry in entries:
        part.append(entry)
        if len(part) == LINE_ENTRIES:
            yield [name, part]
            part = []
    if part:
        yield [name, part]
