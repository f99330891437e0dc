"""TLS contexts, made once per CA file and off the loop: loading the roots takes milliseconds."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from pathlib import Path

import certifi


class TlsContexts:
    """``alpn``: the protocols to offer, or None to leave them to who connects."""

    __slots__ = ("_alpn", "_contexts", "_lock")

    def __init__(self, alpn: Sequence[str] | None = None) -> None:
        self._alpn = alpn
        self._contexts: dict[str | None, ssl.SSLContext] = {}
        self._lock = asyncio.Lock()

    async def get(self, ca_file: str | None) -> ssl.SSLContext:
        """Verifies certificates and host names. Raises OSError for a file that cannot be used."""
        context = self._contexts.get(ca_file)
        if context is not None:
            return context
        async with self._lock:
            if ca_file not in self._contexts:
                self._contexts[ca_file] = await asyncio.to_thread(_make, ca_file, self._alpn)
            return self._contexts[ca_file]


def _make(ca_file: str | None, alpn: Sequence[str] | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca_file or _fallback_roots())
    if alpn is not None:
        context.set_alpn_protocols(alpn)
    return context


def _fallback_roots() -> str | None:
    """certifi's bundle where the system has no roots of its own (slim images)."""
    paths = ssl.get_default_verify_paths()
    if paths.cafile or (paths.capath and any(Path(paths.capath).iterdir())):
        return None
    return certifi.where()
