"""What the options of ``llm-gateway redact`` may say; imports nothing that takes time."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class Kind(StrEnum):
    TEXT = "text"
    JSON = "json"


class Engine(StrEnum):
    FAST = "fast"
    PRESIDIO = "presidio"


class Mode(StrEnum):
    MASK = "mask"
    HASH = "hash"
    BLOCK = "block"
    FLAG = "flag"


class Scan(StrEnum):
    FLAGGED = "flagged"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class Options:
    """A policy as options tell it; None and empty: not given."""

    engine: Engine | None = None
    entities: tuple[str, ...] = ()
    mode: Mode | None = None
    languages: tuple[str, ...] = ()
    threshold: float | None = None
    deny: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()
    recognisers: Path | None = None
    scan: Scan | None = None
    model_path: Path | None = None

    def first(self) -> str | None:
        """The name of an option that was given."""
        names = {"entities": "--entity", "languages": "--language", "model_path": "--model-path"}
        given = (name for name in self.__slots__ if getattr(self, name) not in (None, ()))
        return next((names.get(name, f"--{name}") for name in given), None)
