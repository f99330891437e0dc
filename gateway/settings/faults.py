"""What is wrong with a configuration: every fault with its place, all of them at once."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field

KeyPath = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing to correct. ``line`` counts from 1, for whole files too; ``hint``: what was meant."""

    file: str
    line: int
    key_path: str
    message: str
    hint: str | None = None

    def __str__(self) -> str:
        what = f"{self.key_path}: {self.message}" if self.key_path else self.message
        return f"{self.file}:{self.line}: {what}" + (f" (did you mean {self.hint}?)" if self.hint else "")


class ConfigInvalid(Exception):
    """A configuration that cannot be used; ``faults`` holds all that is wrong with it."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__("\n".join(map(str, faults)))
        self.faults = faults


@dataclass(frozen=True, slots=True)
class Place:
    """``line`` counts from 1."""

    file: str
    line: int


@dataclass(slots=True)
class Faults:
    """Collects faults; of several at the same key only the first is kept."""

    places: dict[KeyPath, Place]
    found: list[Fault] = field(default_factory=list)
    _paths: set[KeyPath] = field(default_factory=set)

    def add(self, path: KeyPath, message: str, hint: str | None = None) -> None:
        """``path`` may end in keys that are not there: the line is that of the nearest one above."""
        if path not in self._paths:
            self._paths.add(path)
            self.add_at(self.place(path), path, message, hint)

    def add_at(self, place: Place, path: KeyPath, message: str, hint: str | None = None) -> None:
        """A fault that is not in the line of its key."""
        self.found.append(Fault(place.file, place.line, dotted(path), message, hint))

    def has(self, path: KeyPath) -> bool:
        """Whether something is wrong at ``path`` itself."""
        return path in self._paths

    def place(self, path: KeyPath) -> Place:
        while path not in self.places and path:
            path = path[:-1]
        return self.places.get(path, Place("configuration", 1))

    def raise_if_any(self) -> None:
        if self.found:
            raise ConfigInvalid(sorted(self.found, key=lambda fault: (fault.file, fault.line)))


def dotted(path: KeyPath) -> str:
    """``models.gpt-4o.deployments[0].price``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{printable(part)}"
    return text.removeprefix(".")


def printable(text: str, most: int = 80) -> str:
    """Text of a file as it may stand in one line of a terminal."""
    shown = "".join(c if c.isprintable() else "�" for c in text)
    return shown if len(shown) <= most else shown[: most - 1] + "…"


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that was probably meant."""
    candidates = {one.lower(): one for one in known}
    found = difflib.get_close_matches(name.lower()[:200], list(candidates), n=1)
    return candidates[found[0]] if found else None
