"""The public keys of an identity provider: fetched in the background, kept when that fails."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import orjson
from jwt import PyJWK, PyJWKSet
from jwt.exceptions import PyJWTError

REFRESH_S = 600.0
AGAIN_S = 30.0
"""An unknown key id makes it look again, at most this often; so does a failure."""
FIRST_RETRY_S = 2.0
PATIENCE_S = 2.0
TIMEOUT_S = 5.0
MAX_BYTES = 1 << 20
MAX_KEYS = 100
_KINDS = {"RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP"}

Report = Callable[..., None]
"""Event name, and its fields."""


class JwksFailed(Exception):
    """Why there are no keys, in one sentence."""


class Jwks:
    """``source``: a file, or a URL. ``changed`` hears when the keys have become others."""

    def __init__(self, source: Path | str, report: Report, changed: Callable[[], None]) -> None:
        self.source = source
        self._report = report
        self._changed = changed
        self._keys: list[PyJWK] | None = None
        self._raw = b""
        self._wake = asyncio.Event()
        self._tried = asyncio.Event()
        self._tried_s = float("-inf")

    @property
    def ready(self) -> bool:
        return self._keys is not None

    def candidates(self, kid: str | None, algorithm: str) -> list[PyJWK]:
        """Keys that may have signed a token with this key id; all that fit where it names none."""
        kind = _KINDS[algorithm[:2]]
        found = [key for key in self._keys or () if key.key_type == kind]
        return found if kid is None else [key for key in found if key.key_id == kid]

    async def run(self) -> None:
        """Looks now, every ten minutes, and when ``look_again`` wants it."""
        failures = 0
        while True:
            self._wake.clear()
            failures = 0 if await self._try() else failures + 1
            wait_s = min(FIRST_RETRY_S * 2 ** (failures - 1), AGAIN_S) if failures else REFRESH_S
            try:
                async with asyncio.timeout(wait_s):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def look_again(self) -> None:
        """Because of a key id that is not there; returns after the look, or after two seconds. What was
        looked at lately is not looked at again."""
        if time.monotonic() - self._tried_s < AGAIN_S:
            return
        self._tried.clear()
        self._wake.set()
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self._tried.wait()
        except TimeoutError:
            pass

    def load(self) -> None:
        """From the file, at once."""
        assert isinstance(self.source, Path)
        self._tried_s = time.monotonic()
        try:
            self._take(self.source.read_bytes())
        except (OSError, JwksFailed) as error:
            self._failed(str(error))

    async def _try(self) -> bool:
        self._tried_s = time.monotonic()
        try:
            self._take(await self._read())
        except (OSError, httpx.HTTPError, httpx.InvalidURL, JwksFailed) as error:
            self._failed(f"{type(error).__name__}: {error}")
            return False
        finally:
            self._tried.set()
        return True

    async def _read(self) -> bytes:
        if isinstance(self.source, Path):
            return await asyncio.to_thread(self.source.read_bytes)
        async with (
            asyncio.timeout(2 * TIMEOUT_S),
            httpx.AsyncClient(timeout=TIMEOUT_S) as client,
            client.stream("GET", self.source, headers={"accept": "application/json"}) as answer,
        ):
            if answer.status_code != 200:
                raise JwksFailed(f"status {answer.status_code}")
            body = b""
            async for block in answer.aiter_bytes():
                body += block
                if len(body) > MAX_BYTES:
                    raise JwksFailed(f"more than {MAX_BYTES} bytes")
            return body

    def _take(self, raw: bytes) -> None:
        """Raises ``JwksFailed`` and keeps what it has where these are no keys."""
        keys = _signing_keys(raw)
        if raw != self._raw:
            self._keys, self._raw = keys, raw
            self._report("jwks_loaded", source=str(self.source), keys=len(keys))
            self._changed()

    def _failed(self, why: str) -> None:
        self._report("jwks_failed", level="error", source=str(self.source), error=why, kept=self.ready)


def _signing_keys(raw: bytes) -> list[PyJWK]:
    try:
        found: Any = orjson.loads(raw)
        several = found["keys"]
        named = [one for one in several if one.get("use", "sig") == "sig" and one.get("kty") != "oct"]
        keys = PyJWKSet(named[:MAX_KEYS]).keys
    except (ValueError, KeyError, TypeError, AttributeError, PyJWTError) as error:
        raise JwksFailed(f"no set of public keys: {error}") from None
    return [key for key in keys if key.key_type in _KINDS.values()]
