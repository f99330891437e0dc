"""Virtual keys: what a client presents, and whom it stands for."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, time, timezone

from gateway.errors import InvalidApiKey

_SECRET = re.compile(rb"[!-~]{16,512}")
_TOKEN = re.compile(rb"eyJ[A-Za-z0-9_-]*\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_DAY_S = 86400
MAX_TOKEN = 8192


@dataclass(slots=True, frozen=True)
class Tenant:
    """``models``: names it may ask for, None for all. ``flag_unpriced``: unknown prices are let through."""

    name: str
    models: frozenset[str] | None
    flag_unpriced: bool = False


@dataclass(slots=True, frozen=True)
class Key:
    """``digest``: SHA-256 of the secret, empty for a token. ``expires_s``: when it stops working, in
    seconds since the epoch. ``strict``: refused where revocations have not been heard of for a while."""

    id: str
    tenant: Tenant
    digest: bytes
    expires_s: float | None = None
    models: frozenset[str] | None = None
    tags: dict[str, str] = field(default_factory=dict)
    strict: bool = False

    def expired(self, now_s: float) -> bool:
        """``now_s``: seconds since the epoch."""
        return self.expires_s is not None and now_s >= self.expires_s


def expiry_s(moment: date) -> float:
    """Seconds since the epoch at which a time (with its zone) has come, or a day is over in UTC."""
    if isinstance(moment, datetime):
        return moment.timestamp()
    return datetime.combine(moment, time.min, timezone.utc).timestamp() + _DAY_S


def read_expiry(text: str) -> date:
    """A day, or a time with its zone. Raises ``ValueError`` with a sentence for people."""
    try:
        if _DATE.fullmatch(text):
            return date.fromisoformat(text)
        moment = datetime.fromisoformat(text.upper())
        if moment.tzinfo is not None:
            return moment
    except ValueError:
        pass
    raise ValueError("must be a date such as 2027-01-31, or a time such as 2027-01-31T18:00:00Z")


class KeyRing:
    """All keys of a snapshot, found by digest."""

    __slots__ = ("_keys", "_names")

    def __init__(self, keys: Iterable[Key]) -> None:
        self._keys = {key.digest: key for key in keys}
        self._names = {(key.tenant.name, key.id): key for key in self._keys.values()}

    def __iter__(self) -> Iterator[Key]:
        return iter(self._keys.values())

    def find(self, digest: bytes) -> Key | None:
        """The key of a secret with this digest, expired or not.

        The digest is looked up, so time depends on nothing that an attacker can steer towards a key;
        the comparison that decides is constant in time.
        """
        key = self._keys.get(digest)
        return key if key is not None and hmac.compare_digest(key.digest, digest) else None

    def named(self, tenant: str, id: str) -> Key | None:
        return self._names.get((tenant, id))

    def names(self) -> Iterable[tuple[str, str]]:
        """Tenants and ids."""
        return self._names.keys()


INVALID = "The API key is missing or not valid."


def digest_of(secret: bytes, *, tokens: bool = False) -> bytes:
    """SHA-256 of what a client presents; raises ``InvalidApiKey`` for what is no secret by its form.
    ``tokens``: those of an identity provider are taken, too."""
    if not _SECRET.fullmatch(secret) and not (tokens and is_token(secret)):
        raise InvalidApiKey(INVALID)
    return hashlib.sha256(secret).digest()


def is_token(secret: bytes) -> bool:
    """Whether it looks like a signed JSON Web Token."""
    return len(secret) <= MAX_TOKEN and _TOKEN.fullmatch(secret) is not None


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
