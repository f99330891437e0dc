"""What a socket can do to us, as errors. Public text is fixed; ``detail`` is for the log."""

from __future__ import annotations

from gateway.errors import Sent, UpstreamError, UpstreamInvalidResponse, UpstreamTimeout

STALE_WITHIN_S = 0.25
"""A peer that has given a connection up says so within a round trip. One that closes later had the
request, and may have worked on it."""


class StaleConnection(UpstreamError):
    """A kept-alive connection was closed by its peer right after the request and before any byte of
    an answer: most likely the peer had given it up already, and never read the request. ``open``
    tries a fresh connection once; only if that is stale too does its caller see this error."""

    stale = True


def unreachable(detail: str) -> UpstreamError:
    """DNS, TCP or TLS failed: no byte of the request was sent."""
    return UpstreamError("The provider could not be reached.", sent=Sent.NEVER, detail=detail)


def connect_timeout(detail: str) -> UpstreamTimeout:
    return UpstreamTimeout(
        "The provider did not accept a connection in time.", sent=Sent.NEVER, detail=detail
    )


def pool_exhausted(detail: str) -> UpstreamError:
    """Every connection we allow ourselves is busy: our own limit, not the deployment's fault."""
    return UpstreamError(
        "Too many requests to the provider are in progress.",
        sent=Sent.NEVER,
        status=503,
        code="overloaded",
        retry_after_s=1,
        blames_deployment=False,
        detail=detail,
    )


def lost(detail: str, *, stale: bool = False) -> UpstreamError:
    """The connection ended before the answer's head."""
    kind = StaleConnection if stale else UpstreamError
    return kind("The provider closed the connection without an answer.", sent=Sent.AMBIGUOUS, detail=detail)


def truncated(detail: str, status: int) -> UpstreamError:
    """The connection ended inside the body."""
    return UpstreamError(
        "The provider's answer was cut off.",
        sent=Sent.AMBIGUOUS,
        upstream_status=status,
        detail=detail,
    )


def malformed(detail: str, status: int = 0) -> UpstreamInvalidResponse:
    """What came is not HTTP, or not within our limits. ``status`` 0: there was no head."""
    return UpstreamInvalidResponse(
        "The provider's answer could not be understood.",
        sent=Sent.AMBIGUOUS,
        upstream_status=status or None,
        detail=detail,
    )


def closed() -> UpstreamError:
    """The caller gave the call up."""
    return UpstreamError(
        "The call to the provider was closed.",
        sent=Sent.AMBIGUOUS,
        blames_deployment=False,
        detail="closed by the gateway",
    )
