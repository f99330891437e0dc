"""One gateway's results."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median

from .measures import Reading
from .peers import Peer


@dataclass
class Column:
    """``missing`` says why there are no results, or no more of them."""

    peer: Peer
    version: str = ""
    missing: str = ""
    readings: list[Reading] = field(default_factory=list)

    def median(self, name: str) -> float | None:
        """The median over the rounds that measured it."""
        found = [getattr(reading, name) for reading in self.readings]
        values = [value for value in found if value is not None]
        return median(values) if values else None

    def title(self, as_markdown: bool) -> str:
        """The name; this project's own is bold in Markdown."""
        bold = as_markdown and self.peer.name == "gateway"
        return f"**{self.peer.title}**" if bold else self.peer.title
