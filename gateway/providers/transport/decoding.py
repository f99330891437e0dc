"""Content codings, inflated in bounded steps.

We ask for ``identity``; a provider (or what stands before it) that compresses all the same is read,
but never more is inflated than the reader takes at once.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from gateway.providers.transport import failures

if TYPE_CHECKING:
    from zlib import _Decompress

_GZIP, _ZLIB, _RAW = 16 + zlib.MAX_WBITS, zlib.MAX_WBITS, -zlib.MAX_WBITS


class Inflater:
    """gzip (any number of members) or deflate (with or without its zlib wrapper), incrementally."""

    __slots__ = ("_gzip", "_more", "_pending", "_stream")

    def __init__(self, *, gzip: bool) -> None:
        self._gzip = gzip
        self._stream: _Decompress | None = None
        self._pending = b""
        self._more = False

    def inflate(self, raw: bytes, limit: int) -> bytes:
        """At most ``limit`` bytes of output; to be called with ``b""`` until it gives ``b""``.

        Raises UpstreamInvalidResponse for what is not the coding it was said to be.
        """
        self._pending += raw
        while self._pending or self._more:
            out = self._step(limit)
            if out:
                return out
        return b""

    def finish(self) -> None:
        """The body has ended. Raises UpstreamInvalidResponse if its compressed stream has not."""
        if self._stream is not None and not self._stream.eof:
            raise failures.malformed("compressed body ended early")

    def _step(self, limit: int) -> bytes:
        stream = self._stream
        if stream is None or stream.eof:
            stream = self._stream = self._next_stream()
        try:
            out = stream.decompress(self._pending, limit)
        except zlib.error as error:
            raise failures.malformed(f"compressed body: {error}") from error
        self._pending = stream.unused_data if stream.eof else stream.unconsumed_tail
        # zlib may hold output back that needs no further input.
        self._more = len(out) == limit and not stream.eof
        return out

    def _next_stream(self) -> _Decompress:
        if self._gzip:
            return zlib.decompressobj(_GZIP)
        if self._stream is not None:
            raise failures.malformed("bytes after the deflate stream")
        wrapped = self._pending[0] & 0x8F == 0x08
        return zlib.decompressobj(_ZLIB if wrapped else _RAW)


def inflater_for(coding: bytes) -> Inflater | None:
    """For a content-encoding; None for identity. Raises UpstreamInvalidResponse if unknown."""
    name = coding.strip().lower()
    if name in (b"", b"identity"):
        return None
    if name in (b"gzip", b"x-gzip"):
        return Inflater(gzip=True)
    if name == b"deflate":
        return Inflater(gzip=False)
    raise failures.malformed(f"content-encoding {coding[:40]!r}")
