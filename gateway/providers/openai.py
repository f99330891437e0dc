"""Anything that speaks the OpenAI wire format: frames are relayed as they come."""

from __future__ import annotations

import hashlib
from typing import Literal

import orjson

from gateway.exchange import ModelRequest, Operation
from gateway.formats import openai_request
from gateway.providers.prefill import Prefill
from gateway.providers.transport import Endpoint, Target, Transport

PATHS = {
    Operation.CHAT: "/chat/completions",
    Operation.COMPLETION: "/completions",
    Operation.EMBEDDING: "/embeddings",
}


CapField = Literal["max_tokens", "max_completion_tokens"]


def cap_field_of(host: str) -> CapField:
    """The field for the output cap of a chat: OpenAI's newer models refuse the old one, which most other
    servers know alone."""
    known = host.endswith(("openai.com", "azure.com"))
    return "max_completion_tokens" if known else "max_tokens"


class OpenAIProvider:
    """``base_path``: the provider's own root (``/v1``); ``api_key`` None: no credential is sent.
    ``cap_field``: how a chat's output cap is named, None: by the host."""

    __slots__ = (
        "_cap_field",
        "_stream_usage",
        "_targets",
        "account",
        "kind",
        "name",
        "prefill",
        "transport",
    )

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
        prefill: Prefill = "none",
        cap_field: CapField | None = None,
    ) -> None:
        self.name = name
        self.account = f"{name}/{hashlib.sha256((api_key or '').encode()).hexdigest()[:16]}"
        self.kind = kind
        self.prefill = prefill
        self.transport = transport
        self._stream_usage = stream_usage
        self._cap_field = cap_field or cap_field_of(endpoint.host)
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
        cap_field = self._cap_field if request.operation is Operation.CHAT else "max_tokens"
        native = openai_request.build(request, model, ask_usage=self._stream_usage, cap_field=cap_field)
        return orjson.dumps(native)
