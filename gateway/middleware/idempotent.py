"""The header ``idempotency-key``: a request that is sent again gets the answer it had, for nothing."""

from __future__ import annotations

import asyncio
import re

from gateway.caching import records
from gateway.caching.idempotency import MAX_BYTES, Claim, Idempotency
from gateway.caching.records import Answer
from gateway.errors import InvalidRequest
from gateway.events import Frame
from gateway.exchange import ClientFormat, Exchange, Outcome, Reply, Source
from gateway.stage import Stage

HEADER = "idempotency-key"
_NAME = HEADER.encode()
_KEY = re.compile(rb"[\x21-\x7e]{1,256}")
_NOTHING = Stage()
_LARGE = 256 * 1024
_REPLAYED = (b"x-gateway-idempotent-replay", b"true")
_FREE = (b"x-gateway-cost-usd", b"0.000000000")


class Idempotent:
    """What it keeps is what stages before it have made of the request, and not yet of the answer."""

    def __init__(self, idempotency: Idempotency) -> None:
        self._idempotency = idempotency

    def begin(self, exchange: Exchange) -> Stage:
        if _NAME not in exchange.client.headers:
            return _NOTHING
        return _Repeatable(exchange, self._idempotency)


class _Repeatable(Stage):
    __slots__ = ("_capture", "_claim", "_exchange", "_idempotency", "_replayed")

    def __init__(self, exchange: Exchange, idempotency: Idempotency) -> None:
        self._exchange = exchange
        self._idempotency = idempotency
        self._claim: Claim | None = None
        self._capture: _Capture | None = None
        self._replayed = False

    async def enter(self) -> Reply | None:
        """Raises ``InvalidRequest``, ``IdempotencyConflict`` and ``Unavailable``."""
        exchange = self._exchange
        key = exchange.client.headers[_NAME]
        if not _KEY.fullmatch(key):
            raise InvalidRequest(
                f"The header '{HEADER}' takes 1 to 256 visible ASCII characters.", param=HEADER
            )
        assert exchange.key is not None
        print_ = await _fingerprint(exchange)
        tenant = exchange.key.tenant.name
        self._claim = claim = self._idempotency.claim(tenant, key, print_, exchange.number)
        answer = await claim.take()
        if answer is not None:
            self._replayed = True
            return _replay(answer)
        return None

    def relay(self, source: Source, stream: bool) -> Source:
        if self._claim is None or self._replayed:
            return source
        self._capture = _Capture(source, self._exchange.format)
        return self._capture

    def close(self, outcome: Outcome) -> None:
        if self._claim is not None:
            self._claim.end(self._answer(outcome))

    def _answer(self, outcome: Outcome) -> Answer | None:
        """What may be given again: not what stood in for an answer."""
        call, request, capture = self._exchange.call, self._exchange.request, self._capture
        if outcome.name != "ok" or capture is None or capture.payloads is None or request is None:
            return None
        if call is None or call.shown is None:
            names = []
        elif call.degraded is not None:
            return None
        else:
            shown = call.shown
            names = [
                (b"x-gateway-model", shown.group.name.encode()),
                (b"x-gateway-deployment", shown.deployment.id.encode()),
            ]
        return Answer(outcome.status, request.stream, capture.payloads, names)


class _Capture:
    """Lets everything pass. ``payloads``: what has, None if it was too much."""

    def __init__(self, source: Source, wire: ClientFormat) -> None:
        self.payloads: list[bytes] | None = []
        self._source = source
        self._wire = wire
        self._bytes = 0

    async def read(self) -> list[Frame]:
        frames = await self._source.read()
        if self.payloads is not None:
            fresh = [self._wire.payload(frame) for frame in frames]
            self._bytes += sum(map(len, fresh))
            if self._bytes > MAX_BYTES:
                self.payloads = None
            else:
                self.payloads += fresh
        return frames


class _Stored:
    """All at once: it is bounded."""

    def __init__(self, payloads: list[bytes]) -> None:
        self._frames = [Frame(payload) for payload in payloads]

    async def read(self) -> list[Frame]:
        frames, self._frames = self._frames, []
        return frames


def _replay(answer: Answer) -> Reply:
    headers = [*answer.headers, _REPLAYED]
    if not answer.stream:
        headers.append(_FREE)
    return Reply(_Stored(answer.payloads), answer.stream, answer.status, headers)


async def _fingerprint(exchange: Exchange) -> bytes:
    request = exchange.request
    assert request is not None
    redaction = exchange.redaction
    masked = b"" if redaction is None else redaction.placeholders.digest()
    parts = (exchange.operation.value, request.model, request.native, masked)
    if exchange.body_bytes > _LARGE:
        return await asyncio.to_thread(records.fingerprint, *parts)
    return records.fingerprint(*parts)
