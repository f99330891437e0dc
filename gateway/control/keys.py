"""Virtual keys: what a client presents, and whom it stands for."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, datetime, time, timezone

from gateway.errors import Forbidden, InvalidApiKey

MIN_CHARS, MAX_CHARS = 16, 512


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

    def may_use(self, model: str) -> bool:
        tenant, own = self.tenant.models, self.models
        return (tenant is None or model in tenant) and (own is None or model in own)

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

    def find(self, secret: bytes, now_s: float) -> Key:
        """The key that ``secret`` opens; raises ``InvalidApiKey``, or ``Forbidden`` when it has expired.

        The digest is looked up, so time depends on nothing that an attacker can steer towards a key;
        the comparison that decides is constant in time. Unknown and malformed secrets are alike.
        """
        if not MIN_CHARS <= len(secret) <= MAX_CHARS or not _visible(secret):
            raise InvalidApiKey(INVALID)
        digest = hashlib.sha256(secret).digest()
        key = self._keys.get(digest)
        if key is None or not hmac.compare_digest(key.digest, digest):
            raise InvalidApiKey(INVALID)
        if key.expired(now_s):
            raise Forbidden("This API key has expired.", code="key_expired")
        return key


INVALID = "The API key is missing or not valid."


def presented(headers: dict[bytes, bytes]) -> bytes:
    """The secret that a request presents; raises ``InvalidApiKey`` for none, and for two that differ."""
    found = {headers[name] for name in (b"x-api-key", b"api-key") if name in headers}
    authorization = headers.get(b"authorization")
    if authorization is not None:
        scheme, _, secret = authorization.partition(b" ")
        if scheme.lower() != b"bearer":
            raise InvalidApiKey(INVALID)
        found.add(secret.strip())
    if len(found) != 1:
        raise InvalidApiKey(INVALID)
    return found.pop()


def _visible(secret: bytes) -> bool:
    return secret.isascii() and secret.decode("ascii").isprintable() and b" " not in secret
