"""The body: taken within bounds, decoded, checked, and resolved to the route that answers it."""

from __future__ import annotations

from gateway.control.bytes_in_flight import BytesInFlight
from gateway.errors import BodyTooLarge, InvalidRequest, UnsupportedMediaType
from gateway.exchange import Exchange, Outcome
from gateway.formats import json_body, openai_request
from gateway.stage import Stage

MAX_TIMEOUT_MS = 86_400_000


class Receive:
    def __init__(self, in_flight: BytesInFlight) -> None:
        self._in_flight = in_flight

    def begin(self, exchange: Exchange) -> Stage:
        return _Reception(exchange, self._in_flight)


class _Reception(Stage):
    __slots__ = ("_exchange", "_held", "_in_flight")

    def __init__(self, exchange: Exchange, in_flight: BytesInFlight) -> None:
        self._exchange = exchange
        self._in_flight = in_flight
        self._held = 0

    async def enter(self) -> None:
        exchange = self._exchange
        headers = exchange.client.headers
        _check_media(headers)
        cap = exchange.snapshot.max_body_bytes
        declared = headers.get(b"content-length")
        if declared is not None and declared.isdigit() and int(declared) > cap:
            raise BodyTooLarge(f"The body is larger than {cap} bytes.")
        self._hold(int(declared) if declared is not None and declared.isdigit() else 0)
        body = await exchange.client.read_body(cap, self._hold_up_to)
        exchange.body_bytes = len(body)
        native = await json_body.decode(body)
        request = openai_request.read(exchange.operation, native)
        assert exchange.key is not None
        exchange.route = route = exchange.snapshot.route(exchange.key, request.model, exchange.operation)
        exchange.request = request
        timeout_s = route.group.timeouts.total_s
        asked = headers.get(b"x-request-timeout-ms")
        if asked is not None:
            timeout_s = min(timeout_s, _timeout_s(asked))
        exchange.deadline_s = exchange.started_s + timeout_s
        exchange.interrupt.deadline(exchange.deadline_s)

    def close(self, outcome: Outcome) -> None:
        if self._held and self._exchange.key is not None:
            self._in_flight.give(self._held, self._exchange.key.tenant.name)

    def _hold(self, size: int) -> None:
        assert self._exchange.key is not None
        self._in_flight.take(size, self._exchange.key.tenant.name)
        self._held += size

    def _hold_up_to(self, received: int) -> None:
        """A body without a declared length takes its share as it comes."""
        if received > self._held:
            self._hold(received - self._held)


def _check_media(headers: dict[bytes, bytes]) -> None:
    coding = headers.get(b"content-encoding", b"identity").strip().lower()
    if coding != b"identity":
        raise UnsupportedMediaType("Compressed request bodies are not taken.", param="content-encoding")
    media, _, parameters = headers.get(b"content-type", b"").partition(b";")
    if media.strip().lower() != b"application/json":
        raise UnsupportedMediaType("The content-type must be application/json.", param="content-type")
    charset = parameters.strip().lower().replace(b'"', b"")
    if charset.startswith(b"charset=") and charset not in (b"charset=utf-8", b"charset=utf8"):
        raise UnsupportedMediaType("The charset must be UTF-8.", param="content-type")


def _timeout_s(asked: bytes) -> float:
    if not asked.isdigit() or len(asked) > 12 or not 1 <= int(asked) <= MAX_TIMEOUT_MS:
        raise InvalidRequest(
            f"'x-request-timeout-ms' must be a whole number from 1 to {MAX_TIMEOUT_MS}.",
            param="x-request-timeout-ms",
        )
    return int(asked) / 1000
