"""Server-sent events, split on bytes (WHATWG HTML, 9.2.6 "Interpreting an event stream")."""

from __future__ import annotations

import re

from gateway.errors import Sent, UpstreamInvalidResponse

_LINE_END = re.compile(rb"\r\n|\n|\r")
_BOM = b"\xef\xbb\xbf"


class Splitter:
    """Turns any chunking of an event stream into the ``data`` payloads of its events.

    Comments, ``event``, ``id``, ``retry`` and unknown fields are passed over; an event without data
    is none. Memory is bounded by ``cap`` bytes an event: more raises ``UpstreamInvalidResponse``.
    """

    __slots__ = ("_after_cr", "_cap", "_fresh", "_general", "_lines", "_scanned", "_tail")

    def __init__(self, cap: int) -> None:
        self._cap = cap
        self._tail = bytearray()
        self._scanned = 0
        self._fresh = True
        self._general = False
        self._after_cr = False
        self._lines: list[bytes] = []

    def feed(self, block: bytes) -> list[bytes]:
        """The payloads of the events that ``block`` completes, in order."""
        if self._fresh:
            block = self._after_bom(block)
        if self._general or b"\r" in block:
            return self._feed_general(block)
        if not self._tail and block.endswith(b"\n\n"):
            return self._events(block)
        self._tail += block
        end = self._tail.rfind(b"\n\n", max(0, self._scanned - 1))
        self._scanned = len(self._tail)
        if end < 0:
            self._check(self._scanned)
            return []
        whole = bytes(self._tail[: end + 2])
        del self._tail[: end + 2]
        self._scanned = len(self._tail)
        self._check(self._scanned)
        return self._events(whole)

    def flush(self) -> list[bytes]:
        """The last event, where the stream ended without its blank line."""
        if self._general:
            self._lines += [bytes(self._tail)]
        else:
            self._lines += bytes(self._tail).split(b"\n")
        self._tail.clear()
        lines, self._lines = self._lines, []
        payload = _payload(lines)
        return [] if payload is None else [payload]

    def _after_bom(self, block: bytes) -> bytes:
        start = bytes(self._tail) + block
        if len(start) < 3 and _BOM.startswith(start):
            self._tail[:] = start
            return b""
        self._tail.clear()
        self._fresh = False
        return start.removeprefix(_BOM)

    def _events(self, block: bytes) -> list[bytes]:
        payloads = []
        for event in block.split(b"\n\n"):
            if event.startswith(b"data: ") and b"\n" not in event:
                payload: bytes | None = event[6:]
            else:
                payload = _payload(event.split(b"\n"))
            if payload is not None:
                self._check(len(payload))
                payloads.append(payload)
        return payloads

    def _feed_general(self, block: bytes) -> list[bytes]:
        """Any line end, at a line's pace: entered for good at the first carriage return.

        A CR ends its line at once; the LF of a CRLF that was cut in two is dropped when it comes.
        """
        self._general = True
        if self._after_cr and block.startswith(b"\n"):
            block = block[1:]
        self._after_cr = block.endswith(b"\r")
        self._tail += block
        if b"\n" not in block and not self._after_cr and b"\r" not in block:
            self._check(len(self._tail))
            return []
        lines = _LINE_END.split(bytes(self._tail))
        self._tail[:] = lines.pop()
        self._check(len(self._tail) + sum(map(len, self._lines)))
        found = [self._take_line(line) for line in lines]
        return [payload for payload in found if payload is not None]

    def _take_line(self, line: bytes) -> bytes | None:
        if line:
            self._lines.append(line)
            return None
        lines, self._lines = self._lines, []
        payload = _payload(lines)
        if payload is not None:
            self._check(len(payload))
        return payload

    def _check(self, size: int) -> None:
        if size > self._cap:
            raise UpstreamInvalidResponse(
                f"The provider sent an event of more than {self._cap} bytes.", sent=Sent.AMBIGUOUS
            )


def _payload(lines: list[bytes]) -> bytes | None:
    """The joined ``data`` of one event, None if it has none."""
    values = []
    for line in lines:
        if line.startswith(b"data:"):
            values.append(line[6:] if line.startswith(b"data: ") else line[5:])
        elif line == b"data":
            values.append(b"")
    return b"\n".join(values) if values else None
