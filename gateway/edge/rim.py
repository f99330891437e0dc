"""How much client connections may ask for, and for how long."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import formatdate

from gateway.edge.head import HeadLimits
from gateway.errors import GatewayError

MAX_CONNECTIONS = 10_000


@dataclass(slots=True)
class Rim:
    """Limits of client connections, and who hears what happens before the pipeline.

    Seconds and bytes. ``keeps``: whether connections stay open after an answer; ``accepts``: whether new
    ones are served at all. ``refused``: a request answered here, with its id. ``failed``: a fault of ours.
    """

    head: HeadLimits = field(default_factory=HeadLimits)
    head_s: float = 10.0
    body_s: float = 30.0
    body_bytes_per_s: float = 16 * 1024
    write_s: float = 30.0
    keep_alive_s: float = 75.0
    drain_s: float = 2.0
    framing_bytes: int = 16 * 1024
    pipelined: int = 16
    max_connections: int = MAX_CONNECTIONS
    keeps: Callable[[], bool] = lambda: True
    accepts: Callable[[], bool] = lambda: True
    refused: Callable[[GatewayError, str], None] = lambda error, request_id: None
    failed: Callable[[str, BaseException, str], None] = lambda event, error, request_id: None
    date_line: bytes = b""

    def tick(self) -> None:
        """Once a second, and before the first request."""
        self.date_line = b"date: %b\r\n" % formatdate(time.time(), usegmt=True).encode()
