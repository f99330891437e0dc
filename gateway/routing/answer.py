"""Reading one upstream answer, sans-IO: bytes in, frames that may be relayed out.

What arrives decides, not what was asked for: an event stream where one body was wanted is gathered,
a body where a stream was wanted is cut into chunks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Protocol

from gateway.errors import UpstreamError, UpstreamInvalidResponse
from gateway.events import (
    End,
    Event,
    Fault,
    Finish,
    Frame,
    Opaque,
    Text,
    ToolArgs,
    ToolStart,
    Usage,
    UsageSeen,
)
from gateway.exchange import ModelRequest
from gateway.formats import finish, openai, openai_convert
from gateway.formats.sse import Splitter
from gateway.providers import errors as provider_errors
from gateway.routing.tally import Tally

_CONTENT = frozenset({Text, ToolStart, ToolArgs, Opaque})


class Answer(Protocol):
    """``committed``: the first content is there. ``complete``: nothing more will come.

    ``usage``: the provider's numbers, None where it sent none that can be used (``usage_rejected``:
    it sent some). ``text_bytes``: UTF-8 bytes of text so far, for an estimate. ``feed`` and ``end``
    raise ``UpstreamError`` for a fault the provider reports, and for an answer that cannot be read.
    """

    committed: bool
    complete: bool
    usage: Usage | None
    usage_rejected: bool

    @property
    def text_bytes(self) -> int: ...

    def feed(self, block: bytes) -> list[Frame]:
        """Takes one read's bytes."""
        ...

    def end(self) -> list[Frame]:
        """The transport has come to its end: the last frames, or an error if the answer was cut."""
        ...


def answer_for(request: ModelRequest, content_type: bytes, response_cap: int, event_cap: int) -> Answer:
    """The reader for what arrives. Sizes in bytes."""
    events = b"event-stream" in content_type
    if not events and request.stream:
        events = b"json" not in content_type and b"html" not in content_type
    if not events:
        return BodyAnswer(request, response_cap)
    if request.stream:
        return StreamAnswer(request, event_cap)
    return GatheredAnswer(request, response_cap, event_cap)


class _Reading:
    """What all answers note when a frame is decoded."""

    __slots__ = ("committed", "complete", "finished", "request", "tally", "usage", "usage_rejected")

    unfinished: ClassVar[str | None] = None
    """What an empty finish reason says: some put it into every chunk."""

    def __init__(self, request: ModelRequest) -> None:
        self.request = request
        self.committed = False
        self.complete = False
        self.finished: set[int] = set()
        self.usage: Usage | None = None
        self.usage_rejected = False
        self.tally = Tally()

    @property
    def text_bytes(self) -> int:
        return self.tally.text_bytes

    def decode(self, frame: Frame) -> None:
        events = _readable(openai.parse, frame)
        self.tally.decoded(frame, events)
        for event in events:
            self._note(event, frame)

    def _note(self, event: Event, frame: Frame) -> None:
        if type(event) in _CONTENT:
            self.committed = True
        elif isinstance(event, Finish):
            self._finish(event, frame)
        elif isinstance(event, UsageSeen):
            self.usage = event.usage
            self.usage_rejected = event.usage is None
        elif isinstance(event, End):
            self.complete = True
        elif isinstance(event, Fault):
            raise provider_errors.fault(event.error)

    def _finish(self, event: Finish, frame: Frame) -> None:
        if event.reason not in finish.KNOWN:
            finish.mend(frame, self.unfinished)
            if not event.reason and self.unfinished is None:
                return
        self.finished.add(event.choice)
        self.committed = True

    def check_finished(self) -> None:
        """At ``[DONE]``, which some say behind cut answers, too."""
        if not self.committed:
            raise UpstreamInvalidResponse("The provider's stream ended without an answer.")
        if not self.finished:
            raise UpstreamError("The provider's stream was cut.")

    def shown(self, frame: Frame) -> bool:
        """Whether the client sees a decoded frame: usage only if it asked, the end never (it is ours)."""
        if self.complete:
            return False
        return self.request.wants_usage or not openai.is_usage_only(frame.native or {})


class StreamAnswer(_Reading):
    """Events for a client that streams. Frames are held back until the first content."""

    __slots__ = ("_held", "_splitter")

    def __init__(self, request: ModelRequest, event_cap: int) -> None:
        super().__init__(request)
        self._splitter = Splitter(event_cap)
        self._held: list[Frame] = []

    def feed(self, block: bytes) -> list[Frame]:
        return self._relay(self._splitter.feed(block))

    def end(self) -> list[Frame]:
        frames = self._relay(self._splitter.flush())
        if not self.complete and len(self.finished) < self.request.choices:
            raise UpstreamError("The provider's stream was cut.")
        self.complete = True
        return frames

    def _relay(self, payloads: list[bytes]) -> list[Frame]:
        out = self._held
        raw_bytes = undecoded = 0
        for raw in filter(None, payloads):
            frame = Frame(raw)
            if not self.committed or openai.peek(raw):
                self.decode(frame)
                if not self.shown(frame):
                    if self.complete:
                        break
                    continue
            elif raw[:1] != b"{" or raw[-1:] != b"}":
                raise UpstreamInvalidResponse("The provider's stream holds what is no JSON object.")
            else:
                undecoded += 1
                raw_bytes += len(raw)
            out.append(frame)
        self.tally.passed(undecoded, raw_bytes)
        if self.complete:
            self.check_finished()
        self._held = [] if self.committed else out
        return out if self.committed else []


class BodyAnswer(_Reading):
    """One body, relayed whole, or cut into chunks for a client that streams."""

    __slots__ = ("_body", "_cap")

    unfinished = "stop"

    def __init__(self, request: ModelRequest, response_cap: int) -> None:
        super().__init__(request)
        self._cap = response_cap
        self._body = bytearray()

    def feed(self, block: bytes) -> list[Frame]:
        self._body += block
        _check_size(len(self._body), self._cap)
        return []

    def end(self) -> list[Frame]:
        frame = Frame(bytes(self._body))
        self._body.clear()
        for event in _readable(openai.parse_body, frame):
            self._note(event, frame)
        if self.usage is None:
            self.tally.decoded(frame, _readable(openai.parse, frame))
        if not self.committed:
            raise UpstreamInvalidResponse("The provider's answer is empty.")
        self.complete = True
        if not self.request.stream:
            return [frame]
        return [f for f in openai_convert.expand(frame.native or {}) if self._wanted(f)]

    def _wanted(self, frame: Frame) -> bool:
        return self.request.wants_usage or not openai.is_usage_only(frame.native or {})


class GatheredAnswer(_Reading):
    """Events gathered into one body."""

    __slots__ = ("_cap", "_frames", "_size", "_splitter")

    def __init__(self, request: ModelRequest, response_cap: int, event_cap: int) -> None:
        super().__init__(request)
        self._splitter = Splitter(event_cap)
        self._cap = response_cap
        self._size = 0
        self._frames: list[Frame] = []

    def feed(self, block: bytes) -> list[Frame]:
        self._size += len(block)
        _check_size(self._size, self._cap)
        return self._take(self._splitter.feed(block))

    def end(self) -> list[Frame]:
        frames = self._take(self._splitter.flush())
        if not frames and not self.complete:
            if not self.committed or len(self.finished) < self.request.choices:
                raise UpstreamError("The provider's stream was cut.")
            frames = self._whole()
        return frames

    def _take(self, payloads: list[bytes]) -> list[Frame]:
        for raw in filter(None, payloads):
            frame = Frame(raw)
            self.decode(frame)
            if self.complete:
                return self._whole()
            self._frames.append(frame)
        return []

    def _whole(self) -> list[Frame]:
        self.check_finished()
        self.complete = True
        return [Frame(None, openai_convert.collect(self._frames))]


def _readable(parse: Callable[[Frame], list[Event]], frame: Frame) -> list[Event]:
    try:
        return parse(frame)
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise UpstreamInvalidResponse(
            "The provider sent an answer that cannot be read.", detail=repr(error)
        ) from None


def _check_size(size: int, cap: int) -> None:
    if size > cap:
        raise UpstreamInvalidResponse(f"The provider's answer is larger than {cap} bytes.")
