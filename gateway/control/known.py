"""The last known control state on disk, for a start while the store is away or has no memory."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from gateway.control.state import State, decode, encode

FILE = "control.json"
Report = Callable[..., None]
"""Event name, and its fields."""


class KnownFile:
    """``control.json`` in ``data_dir``; it holds hashes and no secrets, and is its owner's alone.
    ``report`` hears of a file that cannot be read or written."""

    def __init__(self, data_dir: Path, report: Report) -> None:
        self._path = data_dir / FILE
        self._report = report

    def load(self) -> tuple[State, float | None]:
        """The state, and when the store was last heard (seconds since the epoch, None if never)."""
        try:
            held = orjson.loads(self._path.read_bytes())
            entries = [decode(orjson.dumps(raw)) for raw in held["entries"]]
            version, heard_s = int(held["version"]), held["heard_s"]
        except FileNotFoundError:
            return State(), None
        except (OSError, ValueError, KeyError, TypeError) as error:
            self._report("control_unreadable", level="error", file=str(self._path), error=str(error))
            return State(), None
        known = State(version).joined([one for one in entries if one is not None], version)
        return known, float(heard_s) if isinstance(heard_s, int | float) else None

    def save(self, state: State, heard_s: float | None) -> bool:
        """Whether it could be written; blocks until it is on the disk."""
        held: dict[str, Any] = {"version": state.version, "heard_s": heard_s}
        held["entries"] = [orjson.Fragment(encode(entry)) for entry in state.entries.values()]
        aside = self._path.with_suffix(f".{os.getpid()}.new")
        try:
            file = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with open(file, "wb") as out:  # noqa: PTH123
                out.write(orjson.dumps(held))
                out.flush()
                os.fsync(file)
            aside.rename(self._path)
        except OSError as error:
            self._report("control_unwritable", level="error", file=str(self._path), error=str(error))
            return False
        return True
