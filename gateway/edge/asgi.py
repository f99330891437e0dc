"""The data plane as an ASGI callable: the only place that sees scope, receive and send."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from gateway.edge.cycle import Cycle
from gateway.edge.request_id import accept_request_id, new_request_id
from gateway.edge.sink import CycleSink
from gateway.errors import GatewayError, MethodNotAllowed, NotFound
from gateway.exchange import ClientRequest, Exchange, Operation
from gateway.formats import openai
from gateway.pipeline import Pipeline

POSTS = {
    "/v1/chat/completions": Operation.CHAT,
    "/v1/completions": Operation.COMPLETION,
    "/v1/embeddings": Operation.EMBEDDING,
}
MODELS = "/v1/models"


class DataPlane:
    """Takes everything under ``/v1``; the rest falls through to ``rest``."""

    def __init__(self, pipeline: Pipeline, snapshot: Callable[[], Any], rest: Any) -> None:
        self._pipeline = pipeline
        self._snapshot = snapshot
        self._rest = rest

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        path = scope["path"]
        if scope["type"] != "http" or not (path.startswith("/v1/") or path == "/v1"):
            await self._rest(scope, receive, send)
            return
        cycle: Cycle = scope["extensions"]["gateway.cycle"]
        client = ClientRequest(cycle.method, path, cycle.headers, cycle.read_body)
        operation, misrouted = match(client.method, path)
        asked_id = cycle.headers.get(b"x-request-id")
        exchange = Exchange(
            client,
            (asked_id and accept_request_id(asked_id)) or new_request_id(),
            operation,
            openai,
            self._snapshot(),
            time.monotonic(),
            misrouted,
        )
        sink = CycleSink(cycle)
        try:
            await self._pipeline.serve(exchange, sink)
        finally:
            sink.close()


def match(method: str, path: str) -> tuple[Operation, GatewayError | None]:
    """The operation at a path, or the error for whoever gets past authentication."""
    operation = POSTS.get(path)
    if operation is not None:
        return (operation, None) if method == "POST" else (Operation.NONE, _only("POST", method))
    if path == MODELS or path.startswith(MODELS + "/"):
        return (Operation.MODELS, None) if method == "GET" else (Operation.NONE, _only("GET", method))
    return Operation.NONE, NotFound(f"There is no {path[:200]!r} here.", code="not_found")


def _only(allowed: str, method: str) -> MethodNotAllowed:
    return MethodNotAllowed(f"Use {allowed}, not {method}, on this path.", allow=allowed)
