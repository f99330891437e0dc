"""What the rest of the gateway sees of a transport: endpoints, targets, calls."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import urlsplit

Headers = Sequence[tuple[bytes, bytes]]

_DEFAULT_PORTS = {"http": 80, "https": 443}
_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_PATH = re.compile(r"/[!-~]*")
_BAD_IN_VALUE = re.compile(rb"[\x00\r\n]")

ENGINE_HEADERS = frozenset(
    b"host content-length transfer-encoding connection accept-encoding te upgrade expect"
    b" keep-alive proxy-connection trailer".split()
)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where connections lead, and how many there may be: the key of a connection pool.

    ``ca_file``: PEM bundle that replaces the default roots. ``max_connections``: per process;
    requests beyond it queue. ``proxy`` (a URL, may hold a password) and ``http2`` are for the httpx
    engine alone.
    """

    scheme: str
    host: str
    port: int
    ca_file: str | None = None
    max_connections: int = 1000
    proxy: str | None = field(default=None, repr=False)
    http2: bool = False

    def __post_init__(self) -> None:
        if self.scheme not in _DEFAULT_PORTS:
            raise ValueError("scheme must be http or https")
        if not self.host or re.search(r"[\s/@\\]", self.host):
            raise ValueError("host is missing or has characters that no host has")
        try:
            self.host.encode("idna")
        except UnicodeError:
            raise ValueError("host is not a name that can be looked up") from None
        if not 0 < self.port < 65536:
            raise ValueError("port must be 1 to 65535")
        if self.max_connections < 1:
            raise ValueError("max_connections must be at least 1")

    @classmethod
    def of(cls, base_url: str, **options: Any) -> tuple[Endpoint, str]:
        """The endpoint of a base URL, and its path without a trailing slash (``""`` for the root).

        Raises ValueError for what is not a plain http(s) URL (user information, query, fragment).
        """
        parts = urlsplit(base_url)
        if parts.username is not None or parts.query or parts.fragment:
            raise ValueError("a base URL has no user information, query or fragment")
        port = _DEFAULT_PORTS.get(parts.scheme, 0) if parts.port is None else parts.port
        return cls(parts.scheme, parts.hostname or "", port, **options), parts.path.rstrip("/")

    @property
    def authority(self) -> str:
        """``host[:port]`` as in the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host.encode("idna").decode()
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"


class Target:
    """One operation of one deployment: made at configuration time, called many times.

    ``path`` is the origin form, query included. ``headers`` are sent with every call; those that
    frame a message or name its hop are the engine's own. ``prepared`` belongs to the engine.
    Raises ValueError for anything that could not stand in a request head.
    """

    __slots__ = ("endpoint", "headers", "method", "path", "prepared")

    def __init__(self, endpoint: Endpoint, method: str, path: str, headers: Headers = ()) -> None:
        if not _PATH.fullmatch(path):
            raise ValueError("path must start with / and hold visible ASCII characters only")
        if not _TOKEN.fullmatch(method.encode()):
            raise ValueError("method is not a token")
        for name, _ in headers:
            if name.lower() in ENGINE_HEADERS or not _TOKEN.fullmatch(name):
                raise ValueError(f"header {name!r} cannot be set here")
        encode_headers(headers)
        self.endpoint = endpoint
        self.method = method
        self.path = path
        self.headers = tuple(headers)
        self.prepared: Any = None


def encode_headers(headers: Headers) -> bytes:
    """Header lines, each with its CRLF. Raises ValueError for what would break out of its line."""
    if not headers:
        return b""
    for name, value in headers:
        if _BAD_IN_VALUE.search(value) or _BAD_IN_VALUE.search(name):
            raise ValueError(f"header {name!r} holds a line break or NUL")
    return b"".join([b"%b: %b\r\n" % pair for pair in headers])


class Call(Protocol):
    """One request and its answer; a handle that exists before anything is awaited.

    One task opens and reads; ``abort`` and ``close`` may come from any callback at any time.
    Whatever ends the call (an error, a cancellation of ``open``, ``abort``, ``close``) leaves no
    connection behind that is not idle in its pool.
    """

    status: int
    """Of the answer; 0 until its head has come."""

    @property
    def asked(self) -> bool:
        """Whether any of the request has been handed to a connection: it may have been worked on."""

    headers: list[tuple[bytes, bytes]]
    """Lower-case names; without content-encoding and content-length when the body is inflated."""

    async def open(self, connect_s: float, pool_s: float = 1.0) -> None:
        """Sends the request, returns at the head of the answer (1xx are skipped, 3xx are answers).

        ``connect_s`` bounds DNS, TCP and TLS together, ``pool_s`` the wait for a free connection.
        There is no other time limit: the caller has timers, and ``abort``. Raises UpstreamError.
        A kept connection that turns out to be stale is replaced by a fresh one, once.
        """

    def header(self, name: bytes) -> bytes | None:
        """The first value of a header, by its lower-case name."""

    async def read(self) -> bytes:
        """All that has arrived and was not read yet; waits if that is nothing; ``b""`` at the end.

        A cancelled read loses no bytes. Raises UpstreamError after the last good byte. A connection
        is kept for reuse only if the body was read up to the ``b""``, or had come whole by then.
        """

    async def read_all(self, cap: int) -> bytes:
        """The rest of the body; UpstreamInvalidResponse and a closed connection beyond ``cap``."""

    async def read_up_to(self, cap: int) -> bytes:
        """The rest of the body, or its first ``cap`` bytes: then the connection is closed."""

    def abort(self, error: Exception | None = None) -> None:
        """Drops the connection now; a pending or later ``open`` or ``read`` raises ``error``."""

    def finish(self) -> None:
        """Ends a call whose reader has all that it wanted, while the body's own end may be due.

        The connection is kept if that end comes within ``LINGER_S`` and no byte of a body before it;
        else it is dropped, as by ``close``. What the reader left unread counts as a body. A finished
        call is over: ``close`` and ``abort`` change nothing any more.
        """

    def close(self) -> None:
        """Ends the call: nothing happens after a whole body, else the connection is dropped now."""


class Transport(Protocol):
    """An engine with its connection pools. Belongs to one event loop."""

    def call(self, target: Target, body: bytes, extra_headers: Headers = ()) -> Call:
        """A handle for one request; nothing is sent before its ``open``."""

    def close_idle(self, now: float) -> None:
        """Closes connections idle or old enough by ``now`` (``time.monotonic()``, seconds)."""

    async def aclose(self) -> None:
        """Ends all calls and closes all connections; returns when the sockets are closed."""
