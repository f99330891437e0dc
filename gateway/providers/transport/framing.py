"""What the head of an answer says about its body and its connection."""

from __future__ import annotations

from collections.abc import Mapping

_BODILESS = (204, 304)


class RefusedError(Exception):
    """An answer that parses, but that we do not accept; raised inside parser callbacks."""


def size_of(headers: list[tuple[bytes, bytes]]) -> int:
    return sum(len(name) + len(value) + 4 for name, value in headers)


def by_name(headers: list[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """By name; what comes twice is joined by commas."""
    fields = dict(headers)
    if len(fields) < len(headers):
        fields = {}
        for name, value in headers:
            fields[name] = fields[name] + b", " + value if name in fields else value
    return fields


def framed(status: int, fields: Mapping[bytes, bytes]) -> bool:
    """Whether the body's end shows in the answer itself; otherwise it is the connection's end."""
    return _chunked(fields) or b"content-length" in fields or status in _BODILESS


def _chunked(fields: Mapping[bytes, bytes]) -> bool:
    coding = fields.get(b"transfer-encoding")
    if coding is None:
        return False
    if coding.lower() != b"chunked":
        raise RefusedError(f"transfer-encoding {coding[:40]!r}")
    return True


def idle_s(keep_alive: bytes, most: float) -> float:
    """A second less than the server says it will wait, so that it is never the first to close."""
    for part in keep_alive.split(b","):
        name, _, value = part.strip().partition(b"=")
        if name.lower() == b"timeout" and value.isdigit() and len(value) < 9:
            return min(most, float(value) - 1.0)
    return most
