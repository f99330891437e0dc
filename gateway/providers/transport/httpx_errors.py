"""httpx's exceptions, mapped once. Their names alone do not tell what was sent."""

from __future__ import annotations

import httpx

from gateway.errors import UpstreamError
from gateway.providers.transport import failures

_NEVER = (httpx.ConnectError, httpx.ProxyError, httpx.UnsupportedProtocol, httpx.LocalProtocolError)
_CUT = ("peer closed", "Server disconnected", "StreamReset", "ConnectionTerminated")


def explain(error: Exception, *, status: int, sent: bool, stale: bool) -> UpstreamError:
    """``status`` 0: the head had not come. ``stale``: if lost, the connection was so before."""
    detail = f"{type(error).__name__}: {error}"
    if isinstance(error, httpx.ConnectTimeout):
        return failures.connect_timeout(detail)
    if isinstance(error, _NEVER) or not sent:
        return failures.unreachable(detail)
    if isinstance(error, httpx.RemoteProtocolError) and not any(cut in detail for cut in _CUT):
        return failures.malformed(detail, status)
    if status:
        return failures.truncated(detail, status)
    return failures.lost(detail, stale=stale)
