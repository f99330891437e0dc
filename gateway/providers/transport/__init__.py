"""The upstream transport: the only sockets that lead to a provider.

Two engines stand behind one interface: ``NativeTransport`` here (a Protocol client on httptools,
for speed) and ``over_httpx.HttpxTransport`` (HTTP proxies and HTTP/2), which is imported only by
who needs it, so that a gateway without it does not load httpx.
"""

from gateway.providers.transport.failures import StaleConnection
from gateway.providers.transport.interface import Call, Endpoint, Headers, Target, Transport
from gateway.providers.transport.native import NativeTransport

__all__ = [
    "Call",
    "Endpoint",
    "Headers",
    "NativeTransport",
    "StaleConnection",
    "Target",
    "Transport",
]
