"""What a request head must look like before anybody acts on it; pure.

The parser refuses most of what smuggles requests (both lengths, folded lines, bare line feeds). Here
is what it lets through, and the limits on size.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from gateway.errors import HeadersTooLarge, InvalidRequest

Header = tuple[bytes, bytes]

_HOST = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?")
_LENGTH = re.compile(rb"[0-9]{1,15}")

SINGLE = frozenset(
    b"host authorization x-api-key api-key content-length content-type content-encoding"
    b" transfer-encoding expect x-request-id x-request-timeout-ms x-gateway-feature x-gateway-user"
    b" x-gateway-tags idempotency-key traceparent".split()
)
"""Headers that decide something: two of them, or one in disguise, is a request that means two things."""


@dataclass(slots=True, frozen=True)
class HeadLimits:
    """Bytes, and a count. Sums include the request target."""

    total_bytes: int = 32 * 1024
    header_bytes: int = 8 * 1024
    url_bytes: int = 8 * 1024
    headers: int = 100


def check_size(limits: HeadLimits, url: bytes, headers: list[Header]) -> None:
    """Raises ``HeadersTooLarge``; called for a head as far as it has come."""
    if len(url) > limits.url_bytes:
        raise HeadersTooLarge(f"The URL is longer than {limits.url_bytes} bytes.")
    if len(headers) > limits.headers:
        raise HeadersTooLarge(f"There are more than {limits.headers} headers.")
    total = len(url)
    for name, value in headers:
        size = len(name) + len(value)
        if size > limits.header_bytes:
            raise HeadersTooLarge(f"A header is longer than {limits.header_bytes} bytes.")
        total += size
    if total > limits.total_bytes:
        raise HeadersTooLarge(f"The headers are longer than {limits.total_bytes} bytes together.")


def head_bytes(url: bytes, headers: list[Header]) -> int:
    """About what the head took on the wire."""
    return len(url) + 32 + sum(len(name) + len(value) + 4 for name, value in headers)


def read_head(method: bytes, version: str, url: bytes, headers: list[Header]) -> dict[bytes, bytes]:
    """The headers by name (lower case); raises ``InvalidRequest`` for a head that could be misread."""
    if version not in ("1.1", "1.0"):
        raise InvalidRequest(f"HTTP/{version} is not spoken here.")
    if not url.startswith(b"/"):
        raise InvalidRequest("The request target must be a path.")
    known = dict(headers)
    if len(known) != len(headers):
        _check_doubles(headers)
    host = known.get(b"host")
    if host is None:
        if version == "1.1":
            raise InvalidRequest("The header 'host' is missing.")
    elif not _HOST.fullmatch(host):
        raise InvalidRequest("The header 'host' is not a host.")
    _check_framing(known, version)
    for name in known:
        if b"_" in name and name.replace(b"_", b"-") in SINGLE:
            raise InvalidRequest("A header's name has an underscore where a dash belongs.")
    return known


def _check_doubles(headers: list[Header]) -> None:
    seen = set()
    for name, _ in headers:
        if name in seen and name in SINGLE:
            raise InvalidRequest(f"The header {name.decode()!r} comes twice.")
        seen.add(name)


def _check_framing(known: dict[bytes, bytes], version: str) -> None:
    coding = known.get(b"transfer-encoding")
    length = known.get(b"content-length")
    if coding is not None:
        if coding.lower() != b"chunked" or version == "1.0" or length is not None:
            raise InvalidRequest("The header 'transfer-encoding' can only be 'chunked', and alone.")
    elif length is not None:
        known[b"content-length"] = length = length.strip()
        if not _LENGTH.fullmatch(length):
            raise InvalidRequest("The header 'content-length' is not a length.")
