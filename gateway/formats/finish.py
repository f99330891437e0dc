"""Why an answer ended: the words of the OpenAI format, and what other servers say instead of them."""

from __future__ import annotations

from gateway.errors import UpstreamError
from gateway.events import Frame

KNOWN = frozenset({"stop", "length", "tool_calls", "content_filter", "function_call"})
_MEANS = {
    word: known
    for known, words in {
        "stop": "eos eos_token end_turn stop_sequence",
        "length": "max_tokens max_length max_output_tokens model_length model_context_window_exceeded",
        "tool_calls": "tool_use tool_call",
        "content_filter": "safety recitation blocklist prohibited_content spii refusal",
    }.items()
    for word in words.split()
}
_GIVEN_UP = frozenset(
    {"abort", "aborted", "cancelled", "canceled", "error", "insufficient_system_resource"}
)


def standard(reason: str) -> str:
    """One of ``KNOWN``, which ``stop`` stands for whatever nobody knows; raises ``UpstreamError`` where
    the provider did not bring the answer to its end."""
    word = reason.lower()
    if word in _GIVEN_UP:
        raise UpstreamError("The provider gave the answer up.")
    return word if word in KNOWN else _MEANS.get(word, "stop")


def mend(frame: Frame, empty: str | None) -> None:
    """Puts standard words into a decoded frame; ``empty``: what stands for an empty one.

    Raises as ``standard`` does.
    """
    native = frame.native or {}
    for choice in native.get("choices") or ():
        reason = choice.get("finish_reason")
        if reason is not None:
            choice["finish_reason"] = empty if reason == "" else standard(str(reason))
    frame.edit(native)
