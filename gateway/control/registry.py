"""From what a client presents to the key that it opens: of the configuration, of the API, or of a token."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import time
from collections import OrderedDict
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from gateway.control.keys import INVALID, MAX_TOKEN, Key, Tenant, digest_of, is_token
from gateway.control.state import MadeKey, State
from gateway.errors import InvalidApiKey, Unavailable
from gateway.storage.interface import StoreLost

if TYPE_CHECKING:
    from gateway.runtime import Snapshot

UNKNOWN_S = 0.25
"""So often the store is asked because of keys that nobody knows."""
REFUSED_S = 5.0
REFUSED_MOST = 10_000
STRICT_S = 60.0


class Source(Protocol):
    """What is known of revocations and of the API's keys."""

    state: State

    @property
    def deaf(self) -> bool: ...

    @property
    def shared(self) -> bool: ...

    def stale_s(self) -> float: ...

    async def refresh(self) -> None: ...


class Tokens(Protocol):
    """Tokens of identity providers."""

    @property
    def configured(self) -> bool: ...

    def known(self, digest: bytes, snapshot: Snapshot) -> Key | None: ...

    async def verify(self, token: bytes, digest: bytes, snapshot: Snapshot) -> Key: ...


class NoTokens:
    """No identity provider is configured."""

    configured = False

    def known(self, digest: bytes, snapshot: Snapshot) -> Key | None:
        return None

    async def verify(self, token: bytes, digest: bytes, snapshot: Snapshot) -> Key:
        raise InvalidApiKey(INVALID)


class Registry:
    """``tokens`` may be replaced at any time."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.tokens: Tokens = NoTokens()
        self._bound: dict[bytes, tuple[MadeKey, Tenant, Key]] = {}
        self._refused: OrderedDict[bytes, float] = OrderedDict()
        self._looking = asyncio.Lock()
        self._looked_s = -UNKNOWN_S

    def forget(self) -> None:
        """There are other keys now."""
        self._bound.clear()
        self._refused.clear()

    async def find(self, secret: bytes, snapshot: Snapshot) -> Key:
        """The key that ``secret`` opens, expired or not.

        Raises ``InvalidApiKey`` for secrets that are malformed, unknown or revoked, all alike, and
        ``Unavailable`` where the store would have to be asked and cannot be. What is malformed never
        makes anybody ask the store, and what is unknown hardly ever does.
        """
        if self.tokens.configured and secret[:3] == b"eyJ" and len(secret) <= MAX_TOKEN:
            verified = self.tokens.known(hashlib.sha256(secret).digest(), snapshot)
            if verified is not None:
                return verified
        digest = digest_of(secret, tokens=self.tokens.configured)
        key = self._known(digest, snapshot)
        if key is None and self.tokens.configured and is_token(secret):
            key = await self.tokens.verify(secret, digest, snapshot)
        if key is None:
            key = await self._asked(digest, snapshot)
        if digest in self._source.state.revoked:
            raise InvalidApiKey(INVALID)
        if key.strict and self._source.stale_s() > STRICT_S:
            raise _away("Whether this key is still valid is not known at the moment.")
        return key

    def revoked(self, key: Key) -> bool:
        return key.digest in self._source.state.revoked

    def _known(self, digest: bytes, snapshot: Snapshot) -> Key | None:
        key = snapshot.keys.find(digest)
        if key is not None:
            sooner_s = self._source.state.expiries.get(digest)
            if sooner_s is not None and (key.expires_s is None or sooner_s < key.expires_s):
                return replace(key, expires_s=sooner_s)
            return key
        made = self._source.state.keys.get(digest)
        return None if made is None else self._bind(made, digest, snapshot)

    def _bind(self, made: MadeKey, digest: bytes, snapshot: Snapshot) -> Key | None:
        """The key in this snapshot, None where it is not one: a tenant that has gone, an id that the
        configuration gives to another key."""
        tenant = snapshot.tenants.get(made.tenant)
        if tenant is None or snapshot.keys.named(made.tenant, made.id) is not None:
            return None
        bound = self._bound.get(digest)
        if bound is None or bound[0] is not made or bound[1] is not tenant:
            key = Key(
                id=made.id,
                tenant=tenant,
                digest=bytes.fromhex(made.digest),
                expires_s=made.expires_s,
                models=None if made.models is None or "*" in made.models else frozenset(made.models),
                tags=made.tags,
                strict=made.strict,
            )
            bound = self._bound[digest] = (made, tenant, key)
        return bound[2] if hmac.compare_digest(bound[2].digest, digest) else None

    async def _asked(self, digest: bytes, snapshot: Snapshot) -> Key:
        """A key that another process has just made, perhaps."""
        if self._refused.get(digest, 0.0) > time.monotonic():
            raise InvalidApiKey(INVALID)
        if self._source.shared:
            await self._look()
            key = self._known(digest, snapshot)
            if key is not None:
                return key
            if self._source.deaf:
                raise _away("Keys that are not known here cannot be looked up at the moment.")
        self._refused[digest] = time.monotonic() + REFUSED_S
        self._refused.move_to_end(digest)
        if len(self._refused) > REFUSED_MOST:
            self._refused.popitem(last=False)
        raise InvalidApiKey(INVALID)

    async def _look(self) -> None:
        """Returns after a look at the store that began after this call, for all who wait together."""
        arrived_s = time.monotonic()
        async with self._looking:
            if self._looked_s > arrived_s:
                return
            await asyncio.sleep(max(self._looked_s + UNKNOWN_S - arrived_s, 0))
            self._looked_s = time.monotonic()
            try:
                await self._source.refresh()
            except StoreLost:
                pass  # told by ``deaf``


def _away(sentence: str) -> Unavailable:
    return Unavailable(sentence, code="storage_unavailable", retry_after_s=1)
