"""An Exchange is what a client asked: the facts that two or more parts read, and nothing else."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, Literal, Protocol

from gateway.errors import GatewayError
from gateway.events import Frame
from gateway.interrupt import Interrupt, Reason

if TYPE_CHECKING:
    from gateway.admission.account import Reservation
    from gateway.calls.call import Call, Payer
    from gateway.calls.drain import Drain
    from gateway.control.keys import Key
    from gateway.privacy.redaction import Redaction
    from gateway.routing.demand import Demand
    from gateway.runtime import Route, Snapshot

OutcomeName = Literal["ok", "partial", "error", "refused", "client_gone"]


class Operation(Enum):
    """What is asked of a model; values are OpenTelemetry's ``gen_ai.operation.name`` where it has one."""

    CHAT = "chat"
    COMPLETION = "text_completion"
    EMBEDDING = "embeddings"
    MODELS = "models"
    NONE = "none"

    __hash__ = object.__hash__  # enum's own is Python code, and routes are looked up by it


@dataclass(slots=True)
class ClientRequest:
    """The head of a request, and the way to its body.

    ``headers``: lower-case names. ``read_body(cap, received)`` returns the whole body, tells
    ``received`` how many bytes are held so far, and raises ``BodyTooLarge`` before more than ``cap`` are.
    """

    method: str
    path: str
    headers: dict[bytes, bytes]
    read_body: Callable[[int, Callable[[int], None]], Awaitable[bytes]]


class Sink(Protocol):
    """The client's side of an exchange.

    After ``gone`` nothing is written any more. ``keep_alive``: from now on a comment goes out in long
    silences, behind ``head()`` where no head has gone out yet.
    """

    @property
    def started(self) -> bool: ...
    @property
    def gone(self) -> bool: ...
    def on_gone(self, fire: Callable[[Reason], None]) -> None: ...
    async def start(self, status: int, headers: list[tuple[bytes, bytes]]) -> None: ...
    async def send(self, payload: bytes) -> None: ...
    async def finish(self, payload: bytes = b"") -> None: ...
    def keep_alive(self, head: Callable[[], list[tuple[bytes, bytes]]]) -> None: ...


class ClientFormat(Protocol):
    """The wire format that the client speaks (a module of ``gateway.formats``)."""

    WRITE_END: bytes

    def write(self, frames: list[Frame]) -> bytes:
        """Server-sent events for ``frames``."""
        ...

    def payload(self, frame: Frame) -> bytes:
        """One frame as a body of its own."""
        ...

    def write_error(self, error: GatewayError, request_id: str) -> bytes:
        """The last event of a stream that failed."""
        ...

    def error_body(self, error: GatewayError, request_id: str) -> dict[str, Any]: ...


@dataclass(slots=True)
class ModelRequest:
    """A validated request to a model group.

    ``native`` is the decoded body in the client's wire format: unknown fields live on in it.
    ``max_output_tokens`` is the client's own cap per choice, None if it named none; ``imposed_cap`` is
    what the provider is told instead, where it matters how much an answer may use. ``may_pass``: whether
    the text of an answer may be sent to another provider; None: any may.
    """

    operation: Operation
    model: str
    native: dict[str, Any]
    stream: bool = False
    wants_usage: bool = False
    max_output_tokens: int | None = None
    choices: int = 1
    imposed_cap: int | None = None
    may_pass: Callable[[str], Awaitable[bool]] | None = None


class Source(Protocol):
    """Where the frames of an answer come from."""

    async def read(self) -> list[Frame]:
        """What may go out next; an empty list at the end. Raises ``GatewayError``."""
        ...


@dataclass(slots=True)
class Reply:
    """An answer that has begun. ``stream``: it goes out as server-sent events, else as one body.

    ``headers`` are the allow-listed ones of the upstream, and what names who answered.
    """

    source: Source
    stream: bool = False
    status: int = 200
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)


@dataclass(slots=True)
class Outcome:
    """How an exchange ended; final when stages are closed."""

    name: OutcomeName
    status: int
    error: GatewayError | None = None

    @property
    def code(self) -> str:
        return self.error.code if self.error is not None else ""


Dispatch = Callable[["Exchange"], Awaitable[Reply]]
"""The seam between the tiers: opens the Call that answers ``exchange.request``."""


class Exchange:
    """Born from the request head alone; later stages fill in what they find.

    ``deadline_s`` is when it must be over, known once the body has been read. ``number`` names it in the
    ledger: unlike ``request_id``, which clients may choose, no two exchanges of a writer share one.
    ``admitted_s``: epoch seconds by the store's clock, which decide on the period that is charged.
    ``body_bytes``: size of the request. ``demand``: the most that it may use, known once admitted.
    ``facts``: what the ledger holds of it from the beginning.
    ``drain``: what keeps the Call when the client has left, None where it ends with the exchange.

    Times are of ``time.monotonic()`` (seconds). ``operation`` is NONE for a path that does not exist, and
    ``misrouted`` then holds the error for who gets past authentication.
    """

    __slots__ = (
        "admitted_s",
        "body_bytes",
        "call",
        "client",
        "deadline_s",
        "demand",
        "drain",
        "ended_s",
        "facts",
        "feature",
        "format",
        "head_sent_s",
        "interrupt",
        "key",
        "misrouted",
        "number",
        "operation",
        "payer",
        "redaction",
        "request",
        "request_id",
        "reservation",
        "route",
        "snapshot",
        "started_s",
        "tags",
        "user",
    )

    def __init__(
        self,
        client: ClientRequest,
        request_id: str,
        operation: Operation,
        format: ClientFormat,
        snapshot: Snapshot,
        started_s: float,
        misrouted: GatewayError | None = None,
    ) -> None:
        self.client = client
        self.request_id = request_id
        self.operation = operation
        self.format = format
        self.snapshot = snapshot
        self.started_s = started_s
        self.misrouted = misrouted
        self.interrupt = Interrupt()
        self.deadline_s = started_s
        self.head_sent_s: float | None = None
        self.ended_s: float | None = None
        self.key: Key | None = None
        self.route: Route | None = None
        self.request: ModelRequest | None = None
        self.call: Call | None = None
        self.demand: Demand | None = None
        self.facts: dict[str, Any] | None = None
        self.reservation: Reservation | None = None
        self.payer: Payer | None = None
        self.redaction: Redaction | None = None
        self.drain: Drain | None = None
        self.number = 0
        self.admitted_s = 0
        self.body_bytes = 0
        self.feature = ""
        self.user = ""
        self.tags: dict[str, str] = {}
