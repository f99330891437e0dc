"""No gateway at all: what the load generator and the fake provider can do by themselves."""

from __future__ import annotations

from pathlib import Path

from .peer import Launch, Say


class Direct:
    """The load generator talks to the fake provider."""

    name = "direct"
    title = "direct"
    note = "no gateway: load generator and fake provider alone"

    def install(self, home: Path, say: Say) -> str:
        return ""

    def launch(self, folder: Path, upstream: int, port: int) -> Launch | None:
        return None
