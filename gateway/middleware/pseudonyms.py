"""Cost tags and request ids that hold personal data get other names before anything remembers them."""

from __future__ import annotations

import hashlib
import hmac
from collections import OrderedDict
from collections.abc import Iterable

from gateway.detection import Detection
from gateway.errors import Unavailable
from gateway.exchange import Exchange
from gateway.privacy.guarded import Guarded
from gateway.privacy.interface import DetectorFailed, Match
from gateway.privacy.placeholders import substitute
from gateway.privacy.policy import DetectorSpec, Policy
from gateway.stage import Stage

KNOWN = 4096
"""Names that are remembered with their pseudonyms, in each process."""
_NOTHING = Stage()
_DIGITS = 12
_ID_DIGITS = 32


class Pseudonyms:
    """Before Limits, which writes tags down. A pseudonym is a keyed hash, so that the user of many requests
    stays one user, with one budget, under another name, whatever model is asked for."""

    def __init__(self, detection: Detection) -> None:
        self._detection = detection
        self._known: OrderedDict[tuple[DetectorSpec, bytes, str], str] = OrderedDict()

    def begin(self, exchange: Exchange) -> Stage:
        assert exchange.key is not None
        policy = exchange.snapshot.names.get(exchange.key.tenant.name)
        if policy is None or not (exchange.user or exchange.feature or exchange.tags):
            return _NOTHING
        return _Naming(exchange, policy, self)

    def known(self, exchange: Exchange) -> None:
        """As soon as the tenant is known, for what is refused is logged by its id. An id that the client
        has chosen must stay one: the whole of it is replaced, also where it cannot be searched."""
        assert exchange.key is not None
        policy = exchange.snapshot.names.get(exchange.key.tenant.name)
        if policy is None:
            return
        request_id, sent = exchange.request_id, exchange.client.headers.get(b"x-request-id")
        if sent is None or sent != request_id.encode():
            return
        try:
            clean = self.of(policy, request_id) == request_id
        except DetectorFailed:
            clean = False
        if not clean:
            exchange.request_id = f"req-{_hash(policy.hash_key, 'REQUEST_ID', request_id)[:_ID_DIGITS]}"

    def of(self, policy: Policy, name: str) -> str:
        """``name`` with hashes instead of the personal data in it; raises ``DetectorFailed``."""
        place = (policy.detector, policy.hash_key, name)
        known = self._known.get(place)
        if known is None:
            found = Guarded(self._detection.detector(policy.detector)).find(name)
            known = self._known[place] = _replaced(name, found, policy.hash_key)
            if len(self._known) > KNOWN:
                self._known.popitem(last=False)
        return known


class _Naming(Stage):
    __slots__ = ("_exchange", "_policy", "_pseudonyms")

    def __init__(self, exchange: Exchange, policy: Policy, pseudonyms: Pseudonyms) -> None:
        self._exchange = exchange
        self._policy = policy
        self._pseudonyms = pseudonyms

    async def enter(self) -> None:
        """Raises ``Unavailable``."""
        exchange = self._exchange
        try:
            if exchange.feature:
                exchange.feature = self._named(exchange.feature)
            if exchange.user:
                exchange.user = self._named(exchange.user)
            if exchange.tags:
                exchange.tags = {self._named(name): self._named(tag) for name, tag in exchange.tags.items()}
        except DetectorFailed as failed:
            if self._policy.on_failure == "refuse":
                raise Unavailable(
                    "The search for personal data failed, and nothing passes without it.",
                    code="redaction_unavailable",
                    retry_after_s=1,
                    detail=str(failed),
                ) from failed

    def _named(self, name: str) -> str:
        """The operator's own tags are left as they are; those of a token say who asks."""
        key = self._exchange.key
        assert key is not None
        own = key.digest and name in key.tags.values()
        return name if own else self._pseudonyms.of(self._policy, name)


def _replaced(name: str, found: Iterable[Match], key: bytes) -> str:
    def token(entity: str, value: str) -> str:
        return f"[{entity}_{_hash(key, entity, value)[:_DIGITS]}]"

    return substitute(name, list(found), token)


def _hash(key: bytes, entity: str, value: str) -> str:
    return hmac.new(key, f"{entity}\0{value}".encode(), hashlib.sha256).hexdigest()
