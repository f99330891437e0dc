"""What the inner tier asks of a provider, whatever its kind."""

from __future__ import annotations

from typing import Protocol

from gateway.exchange import ModelRequest, Operation
from gateway.providers.prefill import Prefill
from gateway.providers.transport import Target, Transport


class Provider(Protocol):
    """``name``: as configured; ``kind``: for labels (``gen_ai.provider.name``); ``account``: names it
    together with its credential, without showing that; ``prefill``: how it goes on from an answer that
    has begun."""

    account: str
    name: str
    kind: str
    prefill: Prefill
    transport: Transport

    def target(self, operation: Operation) -> Target:
        """Where requests of this operation go; the same object each time."""
        ...

    def body(self, request: ModelRequest, model: str) -> bytes:
        """The request in the provider's format, for its model ``model``."""
        ...
