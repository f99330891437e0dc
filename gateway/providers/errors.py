"""What a provider's refusal means: from status, headers and body to the error tree."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import orjson

from gateway.errors import (
    Sent,
    UpstreamAuthError,
    UpstreamError,
    UpstreamRefused,
    UpstreamRejected,
    UpstreamTimeout,
)
from gateway.providers.hints import hint_s

_UNPAID = frozenset(
    {"insufficient_quota", "usage_limit_reached", "billing_error", "billing_hard_limit_reached"}
)
_NO_CREDIT = "your credit balance is too low"
_CONTEXT = frozenset({"context_length_exceeded", "string_above_max_length"})
_FILTER = frozenset({"content_filter", "content_policy_violation", "responsibleaipolicyviolation"})
_STATUS_OF_TYPE = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "permission_error": 403,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "overloaded_error": 529,
    "timeout_error": 504,
}
# What a 403 is about when it is not about the credential, by its code, its type and how it begins.
_MODERATED = re.compile(
    r"moderat|flagged|safety|content[ _-]?(?:filter|polic|violat|management)|usage (?:polic|guideline)"
    r"|violat\w* (?:our|the|usage|content)",
    re.I,
)
_ONE_MODEL = re.compile(r"model|resource|region|country|territory|location", re.I)
_ABOUT_CHARS = 300
_SECRET = re.compile(r"\b(?:sk|pk|key|org|proj)-[\w*-]{6,}|\bAIza[\w-]{10,}|https?://\S+")
_MESSAGE_CHARS = 500
_REFUSED = "The provider refused the gateway's credentials."


def refusal(status: int, header: Callable[[str], str | None], body: bytes) -> UpstreamError:
    """The error for an answer whose status is not 2xx. ``body``: its first 64 KiB at most."""
    reported = _reported(body)
    error = _classify(status, reported, hint_s(header, reported))
    error.detail = f"status {status}: {body[:2048].decode('utf-8', 'replace')}"
    return error


def fault(reported: Any) -> UpstreamError:
    """The error for an error object inside an answer that began with 200."""
    error = reported if isinstance(reported, dict) else {"message": str(reported)}
    status = next((v for v in (error.get("status"), error.get("code")) if type(v) is int), None)
    if status is None or not 400 <= status <= 599:
        status = _STATUS_OF_TYPE.get(str(error.get("type")), 500)
    found = _classify(status, error, hint_s(lambda name: None, error))
    if type(found) is UpstreamError and found.sent is not Sent.HARD:
        found.message = "The provider reported an error."
    found.detail = f"in-band error: {orjson.dumps(error)[:2048].decode('utf-8', 'replace')}"
    return found


def _reported(body: bytes) -> dict[str, Any]:
    try:
        native = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    error = native.get("error", native) if isinstance(native, dict) else None
    return error if isinstance(error, dict) else {"message": error} if isinstance(error, str) else {}


def _classify(status: int, reported: dict[str, Any], wait_s: float | None) -> UpstreamError:
    code = str(reported.get("code") or "").lower()
    kind = str(reported.get("type") or "").lower()
    if status == 401:
        return UpstreamAuthError(_REFUSED, upstream_status=status)
    unpaid = status == 402 or not _UNPAID.isdisjoint((code, kind)) or _no_credit(reported)
    if status == 429 or unpaid:
        return _limited(status, unpaid, wait_s)
    if status == 403:
        return _forbidden(code, kind, reported)
    if status in (503, 529):
        named = f" ({kind})" if kind in _STATUS_OF_TYPE else ""
        return UpstreamRefused(
            f"The provider is overloaded{named}.",
            upstream_status=status,
            retry_after_s=_whole_s(wait_s or 1),
            hint_s=wait_s,
        )
    if status in (400, 404, 409, 413, 415, 422):
        return _rejected(status, code, reported)
    if status in (408, 504):
        return UpstreamTimeout("The provider timed out.", upstream_status=status)
    return UpstreamError(
        f"The provider answered with status {status}.",
        upstream_status=status,
        blames_deployment=not 400 <= status < 500,
    )


def _forbidden(code: str, kind: str, reported: dict[str, Any]) -> UpstreamError:
    """403: the prompt, one model, or the credential."""
    inner = reported.get("innererror")
    inner_code = str(inner.get("code") if isinstance(inner, dict) else "")
    about = f"{code} {kind} {inner_code} {str(reported.get('message') or '')[:_ABOUT_CHARS]}"
    if not _FILTER.isdisjoint((code, kind, inner_code.lower())) or _MODERATED.search(about):
        return UpstreamRejected(
            _public_message(reported.get("message")), code="content_filter", upstream_status=403
        )
    if _ONE_MODEL.search(about):
        return UpstreamAuthError(
            "The provider does not let the gateway use the configured model.",
            upstream_status=403,
            refuses_credential=False,
        )
    return UpstreamAuthError(_REFUSED, upstream_status=403)


def _no_credit(reported: dict[str, Any]) -> bool:
    """Anthropic's 400 for an empty account; only its very beginning, since messages may quote requests."""
    return str(reported.get("message") or "")[:40].lower().startswith(_NO_CREDIT)


def _limited(status: int, unpaid: bool, wait_s: float | None) -> UpstreamError:
    """429: come back later, or (no credit left) do not."""
    return UpstreamRefused(
        "The provider's quota is used up." if unpaid else "The provider limits the rate of requests.",
        status=429,
        code="upstream_rate_limited",
        sent=Sent.HARD if unpaid else Sent.REFUSED,
        retryable=not unpaid,
        retry_after_s=_whole_s(wait_s if wait_s is not None else 10),
        hint_s=wait_s,
        upstream_status=status,
        blames_deployment=False,
        refuses_credential=unpaid,
    )


def _rejected(status: int, code: str, reported: dict[str, Any]) -> UpstreamError:
    inner = reported.get("innererror")
    inner_code = str(inner.get("code") if isinstance(inner, dict) else "").lower()
    if status == 404:
        return UpstreamError(
            "The provider does not know the configured model or path.",
            sent=Sent.HARD,
            retryable=False,
            upstream_status=status,
            blames_deployment=False,
        )
    public = "invalid_request"
    if code in _CONTEXT:
        public = "context_length_exceeded"
    elif code in _FILTER or inner_code in _FILTER:
        public = "content_filter"
    elif status == 413:
        public = "body_too_large"
    param = reported.get("param")
    return UpstreamRejected(
        _public_message(reported.get("message")),
        code=public,
        status=413 if status == 413 else 400,
        param=param if isinstance(param, str) else None,
        upstream_status=status,
    )


def _public_message(text: Any) -> str:
    """A provider's word about the request itself, with what could be a credential or address removed."""
    if not isinstance(text, str) or not text:
        return "The provider rejected the request."
    return _SECRET.sub("[…]", text[:_MESSAGE_CHARS])


def _whole_s(wait_s: float) -> int:
    return max(1, math.ceil(wait_s))
