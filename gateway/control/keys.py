"""Virtual keys: what a client presents, and whom it stands for."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, datetime, time, timezone

from gateway.errors import InvalidApiKey

_SECRET = re.compile(rb"[!-~]{16,512}")


@dataclass(slots=True, frozen=True)
class Tenant:
    """``models``: names it may ask for, None for all. ``flag_unpriced``: unknown prices are let through."""

    name: str
    models: frozenset[str] | None
    flag_unpriced: bool = False


@dataclass(slots=True, frozen=True)
class Key:
    """``digest``: SHA-256 of the secret. ``expires``: the last day on which it works, in UTC."""

    id: str
    tenant: Tenant
    digest: bytes
    expires: date | None = None
    models: frozenset[str] | None = None
    tags: dict[str, str] = field(default_factory=dict)

    def expired(self, now_s: float) -> bool:
        """``now_s``: seconds since the epoch."""
        if self.expires is None:
            return False
        end = datetime.combine(self.expires, time.max, timezone.utc)
        return now_s > end.timestamp()


class KeyRing:
    """All keys of a snapshot, found by digest."""

    __slots__ = ("_keys",)

    def __init__(self, keys: Iterable[Key]) -> None:
        self._keys = {key.digest: key for key in keys}

    def find(self, secret: bytes) -> Key:
        """The key that ``secret`` opens, expired or not; raises ``InvalidApiKey``.

        The digest is looked up, so time depends on nothing that an attacker can steer towards a key;
        the comparison that decides is constant in time. Unknown and malformed secrets are alike.
        """
        if not _SECRET.fullmatch(secret):
            raise InvalidApiKey(INVALID)
        digest = hashlib.sha256(secret).digest()
        key = self._keys.get(digest)
        if key is None or not hmac.compare_digest(key.digest, digest):
            raise InvalidApiKey(INVALID)
        return key


INVALID = "The API key is missing or not valid."


def presented(headers: dict[bytes, bytes]) -> bytes:
    """The secret that a request presents; raises ``InvalidApiKey`` for none, and for two that differ."""
    authorization = headers.get(b"authorization")
    found = None if authorization is None else _bearer(authorization)
    for name in (b"x-api-key", b"api-key"):
        secret = headers.get(name)
        if secret is not None:
            if found is not None and secret != found:
                raise InvalidApiKey(INVALID)
            found = secret
    if found is None:
        raise InvalidApiKey(INVALID)
    return found


def _bearer(authorization: bytes) -> bytes:
    scheme, _, secret = authorization.partition(b" ")
    if scheme.lower() != b"bearer":
        raise InvalidApiKey(INVALID)
    return secret.strip()
