"""Tokens of identity providers: verified once, remembered until they expire."""

from __future__ import annotations

import hashlib
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import jwt
from jwt.exceptions import ExpiredSignatureError, PyJWTError

from gateway.control.jwks import Jwks, Report
from gateway.control.keys import INVALID, Key
from gateway.errors import InvalidApiKey, Unavailable

if TYPE_CHECKING:
    from gateway.runtime import Snapshot

KEY_ID = "jwt"
REMEMBERED = 10_000
REFUSED_S = 5.0
EXPIRED = "The token has expired."
_MAX_TAG = 128
_MALFORMED = (ValueError, TypeError, ArithmeticError, RecursionError)
"""What hostile JSON makes of a parser."""
_FOREIGN = re.compile(r"[^A-Za-z0-9 ._:/@+-]")


@dataclass(slots=True, frozen=True)
class Issuer:
    """Whose tokens are taken. ``source``: of its public keys, a file or a URL. ``models``: None for all."""

    issuer: str
    audience: str
    source: Path | str
    tenant_claim: str = "tenant"
    user_claim: str = "sub"
    feature_claim: str | None = None
    algorithms: tuple[str, ...] = ("RS256", "ES256")
    leeway_s: float = 30.0
    models: frozenset[str] | None = None


@dataclass(slots=True, frozen=True)
class Verified:
    """What a token says. ``until_s``: when it has expired, leeway included (seconds since the epoch)."""

    tenant: str
    tags: dict[str, str]
    models: frozenset[str] | None
    until_s: float


class Stoppable(Protocol):
    def cancel(self) -> object: ...


Spawn = Callable[[Coroutine[Any, Any, None], str], Stoppable]


class JwtVerifier:
    """``spawn`` runs what fetches keys. Used from the event loop."""

    def __init__(self, spawn: Spawn, report: Report) -> None:
        self._spawn = spawn
        self._report = report
        self._issuers: Sequence[Issuer] = ()
        self._sets: dict[Path | str, Jwks] = {}
        self._running: dict[Path | str, Stoppable] = {}
        self._started = False
        self._verified: OrderedDict[bytes, Verified] = OrderedDict()
        self._refused: OrderedDict[bytes, float] = OrderedDict()

    @property
    def configured(self) -> bool:
        return bool(self._issuers)

    def configure(self, issuers: Sequence[Issuer]) -> None:
        """From now on these are taken; public keys that are known already stay known."""
        self._refused.clear()  # tenants may be others now
        if list(issuers) == list(self._issuers):
            return
        self._issuers = issuers
        wanted = {one.source for one in issuers}
        for source in [source for source in self._sets if source not in wanted]:
            del self._sets[source]
            if source in self._running:
                self._running.pop(source).cancel()
        for source in wanted - self._sets.keys():
            known = self._sets[source] = Jwks(source, self._report, self.forget)
            if isinstance(source, Path):
                known.load()
        self.forget()
        if self._started:
            self.start()

    def start(self) -> None:
        self._started = True
        for source, known in self._sets.items():
            if source not in self._running:
                self._running[source] = self._spawn(known.run(), "public keys of an issuer")

    def forget(self) -> None:
        """What was verified by other keys than those of now."""
        self._verified.clear()
        self._refused.clear()

    def known(self, digest: bytes, snapshot: Snapshot) -> Key | None:
        """The key that a token verified before stands for; raises ``InvalidApiKey`` once it is over."""
        verified = self._verified.get(digest)
        if verified is None:
            return None
        if time.time() >= verified.until_s:
            del self._verified[digest]
            raise InvalidApiKey(EXPIRED)
        return _key(verified, snapshot)

    async def verify(self, token: bytes, digest: bytes, snapshot: Snapshot) -> Key:
        """Raises ``InvalidApiKey``, and ``Unavailable`` while the issuer's public keys are not known."""
        if self._refused.get(digest, 0.0) > time.monotonic():
            raise InvalidApiKey(INVALID)
        try:
            verified = await self._checked(token.decode("ascii"))
            key = _key(verified, snapshot)
        except ExpiredSignatureError:
            raise InvalidApiKey(EXPIRED) from None
        except (PyJWTError, InvalidApiKey, *_MALFORMED) as error:
            _remember(self._refused, digest, time.monotonic() + REFUSED_S)
            raise InvalidApiKey(INVALID, detail=f"{type(error).__name__}: {error}") from None
        _remember(self._verified, digest, verified)
        return key

    async def _checked(self, token: str) -> Verified:
        header = jwt.get_unverified_header(token)
        claimed = jwt.decode(token, options={"verify_signature": False})
        kid = header.get("kid")
        error: PyJWTError = jwt.InvalidIssuerError("unknown issuer")
        for issuer in self._issuers:
            if issuer.issuer != claimed.get("iss") or header.get("alg") not in issuer.algorithms:
                continue
            keys = await self._candidates(issuer, kid if isinstance(kid, str) else None, header["alg"])
            for public in keys:
                try:
                    return _claims(token, public.key, header["alg"], issuer)
                except PyJWTError as failed:
                    error = failed
                    if isinstance(failed, ExpiredSignatureError):
                        raise
        raise error

    async def _candidates(self, issuer: Issuer, kid: str | None, algorithm: str) -> list[jwt.PyJWK]:
        known = self._sets[issuer.source]
        found = known.candidates(kid, algorithm)
        if not found:
            await known.look_again()
            found = known.candidates(kid, algorithm)
        if not known.ready:
            raise Unavailable(
                "The public keys of this token's issuer are not known yet.",
                code="storage_unavailable",
                retry_after_s=1,
            )
        return found


def _claims(token: str, public: Any, algorithm: str, issuer: Issuer) -> Verified:
    claims = jwt.decode(
        token,
        public,
        algorithms=[algorithm],
        audience=issuer.audience,
        issuer=issuer.issuer,
        leeway=issuer.leeway_s,
        options={"require": ["exp", "iss", "aud"]},
    )
    tenant = claims.get(issuer.tenant_claim)
    if not isinstance(tenant, str):
        raise jwt.MissingRequiredClaimError(issuer.tenant_claim)
    tags = {}
    for name, claim in (("user", issuer.user_claim), ("feature", issuer.feature_claim)):
        value = claims.get(claim) if claim else None
        if isinstance(value, str) and value:
            tags[name] = _tag(value)
    return Verified(tenant, tags, issuer.models, float(claims["exp"]) + issuer.leeway_s)


def _tag(text: str) -> str:
    """``text`` as a cost tag; one that does not fit ends in a hash of it, so that no two become one."""
    fitting = _FOREIGN.sub("_", text)[:_MAX_TAG]
    if fitting == text:
        return text
    digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:8]
    return f"{fitting[: _MAX_TAG - 9]}-{digest}"


def _key(verified: Verified, snapshot: Snapshot) -> Key:
    tenant = snapshot.tenants.get(verified.tenant)
    if tenant is None:
        raise InvalidApiKey(INVALID)
    return Key(KEY_ID, tenant, b"", models=verified.models, tags=verified.tags)


def _remember(where: OrderedDict[bytes, Any], digest: bytes, value: object) -> None:
    where[digest] = value
    where.move_to_end(digest)
    if len(where) > REMEMBERED:
        where.popitem(last=False)
