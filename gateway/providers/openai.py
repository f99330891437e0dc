"""Anything that speaks the OpenAI wire format: frames are relayed as they come."""

from __future__ import annotations

import orjson

from gateway.exchange import ModelRequest, Operation
from gateway.formats import openai_request
from gateway.providers.transport import Endpoint, Target, Transport

PATHS = {
    Operation.CHAT: "/chat/completions",
    Operation.COMPLETION: "/completions",
    Operation.EMBEDDING: "/embeddings",
}


class OpenAIProvider:
    """``base_path``: the provider's own root (``/v1``); ``api_key`` None: no credential is sent."""

    __slots__ = ("_stream_usage", "_targets", "kind", "name", "transport")

    def __init__(
        self,
        name: str,
        transport: Transport,
        endpoint: Endpoint,
        base_path: str,
        api_key: str | None,
        *,
        kind: str = "openai",
        stream_usage: bool = True,
    ) -> None:
        self.name = name
        self.kind = kind
        self.transport = transport
        self._stream_usage = stream_usage
        headers = [
            (b"content-type", b"application/json"),
            (b"accept", b"application/json, text/event-stream"),
            (b"user-agent", b"llm-gateway"),
        ]
        if api_key:
            headers.append((b"authorization", b"Bearer " + api_key.encode()))
        self._targets = {
            operation: Target(endpoint, "POST", base_path + path, headers)
            for operation, path in PATHS.items()
        }

    def target(self, operation: Operation) -> Target:
        return self._targets[operation]

    def body(self, request: ModelRequest, model: str) -> bytes:
        return orjson.dumps(openai_request.build(request, model, ask_usage=self._stream_usage))
