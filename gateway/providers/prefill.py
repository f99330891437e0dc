"""Requests that go on from an answer that has begun."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

from gateway.accounting.tokens import estimate_text
from gateway.exchange import ModelRequest

Prefill = Literal["none", "message", "prefix", "vllm"]
_CAPS = ("max_tokens", "max_completion_tokens")


def sent_of(prefill: Prefill, delivered: str) -> str:
    """What of ``delivered`` is sent. Models behind ``message`` refuse white space at its end."""
    return delivered.rstrip() if prefill == "message" else delivered


def continued(request: ModelRequest, prefill: Prefill, sent: str) -> ModelRequest:
    """``request`` with the beginning of its answer, and less room for the rest."""
    message: dict[str, Any] = {"role": "assistant", "content": sent}
    if prefill == "prefix":
        message["prefix"] = True
    native = {**request.native, "messages": [*request.native["messages"], message]}
    if prefill == "vllm":
        native |= {"continue_final_message": True, "add_generation_prompt": False}
    used = estimate_text(sent)
    for name in _CAPS:
        if native.get(name):
            native[name] = _left(native[name], used)
    return replace(
        request,
        native=native,
        max_output_tokens=_left(request.max_output_tokens, used),
        imposed_cap=_left(request.imposed_cap, used),
    )


def _left(cap: int | None, used: int) -> int | None:
    return cap and max(1, cap - used)
