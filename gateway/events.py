"""What flows from a provider to a client: frames (wire units) and the events they hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Channel = Literal["content", "reasoning", "refusal"]


@dataclass(slots=True)
class Usage:
    """Tokens as a provider counts them: ``input`` includes ``cached_input``."""

    input: int = 0
    output: int = 0
    cached_input: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.input + other.input,
            self.output + other.output,
            self.cached_input + other.cached_input,
        )


@dataclass(slots=True)
class Start:
    """Lifecycle: an answer begins (role chunk, ``message_start``). Holds no content."""


@dataclass(slots=True)
class Text:
    choice: int
    channel: Channel
    text: str


@dataclass(slots=True)
class ToolStart:
    choice: int
    index: int
    id: str
    name: str


@dataclass(slots=True)
class ToolArgs:
    choice: int
    index: int
    text: str


@dataclass(slots=True)
class Finish:
    choice: int
    reason: str


@dataclass(slots=True)
class UsageSeen:
    """Cumulative: the last one counts. ``usage`` is None when the provider's numbers are unusable."""

    usage: Usage | None


@dataclass(slots=True)
class Opaque:
    """Something the format does not name: content, as far as the commit point is concerned."""

    format: str
    payload: Any


@dataclass(slots=True)
class Fault:
    """The provider reports an error inside an answer; ``error`` is its error object as it came."""

    error: Any


@dataclass(slots=True)
class End:
    """The provider says that the answer is complete (``[DONE]``)."""


Event = Start | Text | ToolStart | ToolArgs | Finish | UsageSeen | Opaque | Fault | End


class Frame:
    """One SSE event's payload, or one whole buffered body, decoded only as far as somebody needs.

    ``raw`` is the payload as it came (None once edited), ``native`` the decoded JSON, ``events`` what
    it means. At least one of ``raw`` and ``native`` is set.
    """

    __slots__ = ("events", "native", "raw")

    def __init__(
        self,
        raw: bytes | None,
        native: dict[str, Any] | None = None,
        events: list[Event] | None = None,
    ) -> None:
        self.raw = raw
        self.native = native
        self.events = events

    def edit(self, native: dict[str, Any]) -> None:
        """Replaces the payload; what came is forgotten."""
        self.raw, self.native = None, native
