"""Response heads: what every answer says about itself, on success and on failure."""

from __future__ import annotations

from gateway.accounting.money import format_usd
from gateway.admission.ratelimit_headers import ratelimit_headers
from gateway.errors import GatewayError, MethodNotAllowed
from gateway.exchange import Exchange, Reply

Headers = list[tuple[bytes, bytes]]

_STREAM: Headers = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # nginx would hold events back
]
_JSON: tuple[bytes, bytes] = (b"content-type", b"application/json")


def stream_head(exchange: Exchange, now_s: float, reply: Reply | None = None) -> Headers:
    """For a stream; without ``reply`` the head goes out before it is known who answers."""
    headers = [*_STREAM, *_common(exchange, now_s, answered=reply is not None, stream=True)]
    if reply is not None:
        headers += reply.headers
    return headers


def body_head(exchange: Exchange, now_s: float, length: int, reply: Reply) -> Headers:
    """For one body of ``length`` bytes."""
    headers = _common(exchange, now_s)
    headers += (_JSON, (b"content-length", b"%d" % length))
    if exchange.call is not None:
        bill = exchange.call.bill()
        if bill.priced:
            headers.append((b"x-gateway-cost-usd", format_usd(bill.cost_nanousd).encode()))
    headers += reply.headers
    return headers


def error_head(exchange: Exchange, now_s: float, length: int, error: GatewayError) -> Headers:
    headers = _common(exchange, now_s)
    headers += (_JSON, (b"content-length", b"%d" % length))
    return headers + retry_headers(error)


def retry_headers(error: GatewayError) -> Headers:
    """Whether and when to try again, in the headers that client libraries act upon."""
    headers: Headers = []
    if error.status in (429, 503):
        headers.append((b"retry-after", b"%d" % max(1, error.retry_after_s or 1)))
        headers.append((b"x-should-retry", b"true" if error.retryable else b"false"))
    elif not error.retryable:
        headers.append((b"x-should-retry", b"false"))
    if isinstance(error, MethodNotAllowed):
        headers.append((b"allow", error.allow.encode()))
    return headers


def _common(exchange: Exchange, now_s: float, *, answered: bool = True, stream: bool = False) -> Headers:
    """``answered``: it is known who answers, if anybody does."""
    call = exchange.call
    upstream_s = call.waited_s(now_s) if call is not None else 0.0
    own_s = max(now_s - exchange.started_s - upstream_s, 0.0)
    headers = [
        (b"x-request-id", exchange.request_id.encode()),
        (b"server-timing", b"gateway;dur=%.3f, upstream;dur=%.3f" % (own_s * 1e3, upstream_s * 1e3)),
    ]
    reservation = exchange.reservation
    if reservation is not None:
        if reservation.rates:
            headers += ratelimit_headers(reservation.rates)
        if reservation.local:
            headers.append((b"x-gateway-degraded", b"storage"))
    if exchange.redaction is not None:
        headers.append((b"x-gateway-redaction", exchange.redaction.header(stream=stream)))
    last = call.shown if call is not None and answered else None
    if call is not None and last is not None:
        headers += (
            (b"x-gateway-model", last.group.name.encode()),
            (b"x-gateway-deployment", last.deployment.id.encode()),
            (b"x-gateway-attempts", b"%d" % len(call.attempts)),
        )
    return headers
