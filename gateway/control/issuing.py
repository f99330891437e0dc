"""Keys that operators make, list, rotate and revoke by the API."""

from __future__ import annotations

import asyncio
import hashlib
import re
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from gateway.control.control import Control
from gateway.control.keys import Key
from gateway.control.state import Entry, MadeKey, Override
from gateway.errors import InvalidRequest, NotFound, Unavailable

if TYPE_CHECKING:
    from gateway.runtime import Snapshot

OVERLAP_S = 3600.0
_KEYS = re.compile("(?=(/keys/))")
"""Everywhere, also where two share a slash."""


@dataclass(slots=True)
class Wanted:
    """A key to be made; None: as the key that it replaces has it, or nothing."""

    id: str | None = None
    expires_s: float | None = None
    models: Sequence[str] | None = None
    tags: Mapping[str, str] | None = None
    strict: bool | None = None
    rotate: str | None = None
    overlap_s: float = OVERLAP_S


@dataclass(slots=True)
class Listed:
    """A key as operators see it. ``source``: file or api. Times are seconds since the epoch."""

    id: str
    tenant: str
    source: str
    digest: bytes
    created_s: float | None = None
    expires_s: float | None = None
    revoked_s: float | None = None
    models: Sequence[str] | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    strict: bool = False

    def works(self, now_s: float) -> bool:
        return self.revoked_s is None and (self.expires_s is None or now_s < self.expires_s)


class Issuing:
    def __init__(self, control: Control) -> None:
        self._control = control
        self._making = asyncio.Lock()

    def listed(self, tenant: str, snapshot: Snapshot) -> list[Listed]:
        """Those of the configuration, then the API's by age, revoked ones too. Raises ``NotFound``."""
        _check_tenant(tenant, snapshot)
        state = self._control.watch.state
        found = [self._of_file(key) for key in snapshot.keys if key.tenant.name == tenant]
        taken = {one.digest for one in found}
        made = sorted(state.keys.values(), key=lambda one: one.created_s)
        found += [_of_api(one) for one in made if one.tenant == tenant]
        return [one for one in found if one.source == "file" or one.digest not in taken]

    def one(self, tenant: str, id: str, snapshot: Snapshot) -> Listed:
        """The key that works, or else the last that had this id. Raises ``NotFound``."""
        keys = [one for one in self.listed(tenant, snapshot) if one.id == id]
        if not keys:
            raise NotFound(f"The tenant {tenant!r} has no key {id[:200]!r}.")
        now_s = time.time()
        return next((one for one in keys if one.works(now_s)), keys[-1])

    async def owned(self, place: str, owner: str | None, snapshot: Snapshot) -> tuple[str, str]:
        """Tenant and id of ``place``, written TENANT/keys/ID: either may hold slashes, and /keys/ too.
        ``owner``: the tenant, where that alone means two keys. Raises ``NotFound`` and ``InvalidRequest``.
        """
        ways = [(place[: at.start()], place[at.end(1) :]) for at in _KEYS.finditer(place)]
        known = [way for way in ways if way[0] in snapshot.tenants and owner in (None, way[0])]
        if not known:
            raise NotFound(f"There is no tenant {(owner or ways[0][0])[:200]!r}.")
        if len(known) == 1:
            return known[0]
        await self._control.catch_up_quietly()
        held = [way for way in known if any(one.id == way[1] for one in self.listed(way[0], snapshot))]
        if len(held) > 1:
            names = " or ".join(f"?owner={tenant}" for tenant, _ in held)
            raise InvalidRequest(f"Several tenants have a key of this name; add {names}.", param="owner")
        return (held or known)[0]

    async def make(self, tenant: str, wanted: Wanted, snapshot: Snapshot) -> tuple[str, MadeKey]:
        """The secret, and the key. Raises ``NotFound``, ``InvalidRequest`` and ``Unavailable``."""
        _check_tenant(tenant, snapshot)
        name = wanted.id or f"key-{secrets.token_hex(4)}"
        secret = f"gw-{secrets.token_urlsafe(32)}"
        digest = hashlib.sha256(secret.encode()).hexdigest()
        async with self._making:  # of two keys with one id the second is refused
            like = await self._like(tenant, name, wanted, snapshot)
            await self._take(tenant, name, digest, snapshot)
            try:
                await self._add(tenant, name, digest, wanted, like)
            except Unavailable:
                await self._control.unclaim(tenant, name, digest)
                raise
        return secret, self._control.watch.state.keys[bytes.fromhex(digest)]

    async def _like(self, tenant: str, name: str, wanted: Wanted, snapshot: Snapshot) -> Listed:
        """The key that is replaced, else one of this name without rights of its own."""
        await self._control.catch_up_quietly()
        keys = self.listed(tenant, snapshot)
        replaced = None if wanted.rotate is None else _working(keys, tenant, wanted.rotate, time.time())
        if replaced is not None and replaced.id in snapshot.terms[tenant].keys:
            raise InvalidRequest(
                "This key has limits or a budget of its own in the configuration; rotate it there.",
                param="rotate",
            )
        _check_models(wanted.models, snapshot)
        return replaced or Listed(name, tenant, "api", b"")

    async def _take(self, tenant: str, name: str, digest: str, snapshot: Snapshot) -> None:
        """Raises ``InvalidRequest`` where a key has this id, or is about to have it."""
        had = await self._control.claim(tenant, name, digest)
        now_s = time.time()
        keys = [one for one in self.listed(tenant, snapshot) if one.id == name]
        if not had or any(one.source == "file" or one.works(now_s) for one in keys):
            await self._control.unclaim(tenant, name, digest)
            raise InvalidRequest(f"This tenant has a key {name!r} already.", param="id")

    async def _add(self, tenant: str, name: str, digest: str, wanted: Wanted, like: Listed) -> None:
        def entries(version: int, changed_s: float) -> list[Entry]:
            models = like.models if wanted.models is None else wanted.models
            key = MadeKey(
                tenant=tenant,
                id=name,
                digest=digest,
                version=version,
                changed_s=changed_s,
                created_s=changed_s,
                expires_s=wanted.expires_s,
                models=None if models is None else tuple(models),
                tags=dict(like.tags if wanted.tags is None else wanted.tags),
                strict=like.strict if wanted.strict is None else wanted.strict,
            )
            if wanted.rotate is None:
                return [key]
            return [key, self._ended(like, version, changed_s, changed_s + wanted.overlap_s)]

        await self._control.add(entries, tenant)

    async def revoke(self, tenant: str, id: str, cut: bool, snapshot: Snapshot) -> tuple[Listed, bool]:
        """All keys of this id. Returns the one that worked, else the last, and whether the other processes
        know of it. Raises ``NotFound``."""
        await self._control.catch_up_quietly()
        key = self.one(tenant, id, snapshot)
        same = [one for one in self.listed(tenant, snapshot) if one.id == id]
        keys = [one for one in same if cut or one.revoked_s is None] or [key]

        def entries(version: int, changed_s: float) -> list[Entry]:
            return [
                self._ended(one, version, changed_s, one.expires_s, revoked=True, cut=cut) for one in keys
            ]

        shared = await self._control.revoke(entries, tenant)
        return next(one for one in self.listed(tenant, snapshot) if one.digest == key.digest), shared

    def _ended(
        self,
        key: Listed,
        version: int,
        now_s: float,
        expires_s: float | None,
        *,
        revoked: bool = False,
        cut: bool = False,
    ) -> Entry:
        """The entry that ends a key, at ``expires_s`` or now; never later than it would have ended."""
        ends = [one for one in (key.expires_s, expires_s) if one is not None]
        until_s = min(ends, default=None)
        revoked_s = (key.revoked_s or now_s) if revoked else key.revoked_s
        made = self._control.watch.state.keys.get(key.digest)
        if key.source == "api" and made is not None:
            return replace(
                made, version=version, changed_s=now_s, expires_s=until_s, revoked_s=revoked_s, cut=cut
            )
        return Override(
            key.tenant, key.id, key.digest.hex(), version, now_s, until_s, revoked_s=revoked_s, cut=cut
        )

    def _of_file(self, key: Key) -> Listed:
        state = self._control.watch.state
        override = state.entries.get(f"override:{key.digest.hex()}")
        revoked_s = override.revoked_s if isinstance(override, Override) else None
        made = state.keys.get(key.digest)
        ends = [one for one in (key.expires_s, state.expiries.get(key.digest)) if one is not None]
        return Listed(
            id=key.id,
            tenant=key.tenant.name,
            source="file",
            digest=key.digest,
            created_s=None,
            expires_s=min(ends, default=None),
            revoked_s=revoked_s if made is None else revoked_s or made.revoked_s,
            models=None if key.models is None else sorted(key.models),
            tags=key.tags,
            strict=key.strict,
        )


def _of_api(key: MadeKey) -> Listed:
    return Listed(
        id=key.id,
        tenant=key.tenant,
        source="api",
        digest=bytes.fromhex(key.digest),
        created_s=key.created_s,
        expires_s=key.expires_s,
        revoked_s=key.revoked_s,
        models=key.models,
        tags=key.tags,
        strict=key.strict,
    )


def _working(keys: Sequence[Listed], tenant: str, id: str, now_s: float) -> Listed:
    found = next((one for one in keys if one.id == id and one.works(now_s)), None)
    if found is None:
        raise NotFound(f"The tenant {tenant!r} has no key {id[:200]!r} that works.")
    return found


def _check_tenant(tenant: str, snapshot: Snapshot) -> None:
    if tenant not in snapshot.tenants:
        raise NotFound(f"There is no tenant {tenant[:200]!r}.")


def _check_models(models: Sequence[str] | None, snapshot: Snapshot) -> None:
    for name in models or ():
        if name != "*" and name not in snapshot.groups and name not in snapshot.aliases:
            raise InvalidRequest(f"{name[:100]!r} is no model group or alias.", param="models")
