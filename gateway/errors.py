"""The exception tree: everything that can go wrong with a request, and what the client is told.

::

    GatewayError                       status  code                       type
    ├── InvalidRequest                 400     invalid_request            invalid_request_error
    │   ├── ContextLengthExceeded      400     context_length_exceeded
    │   └── ContentFiltered            400     content_filter
    ├── InvalidApiKey                  401     invalid_api_key            authentication_error
    ├── Forbidden                      403     model_not_allowed, …       permission_error
    ├── NotFound                       404     not_found, model_not_found not_found_error
    ├── MethodNotAllowed               405     method_not_allowed         invalid_request_error
    ├── BodyTooLarge                   413     body_too_large             invalid_request_error
    ├── UnsupportedMediaType           415     unsupported_media_type     invalid_request_error
    ├── IdempotencyConflict            422     idempotency_conflict       invalid_request_error
    ├── HeadersTooLarge                431     headers_too_large          invalid_request_error
    ├── LimitExceeded                  429     rate_limit_exceeded, …     rate_limit_error
    ├── Unavailable                    503     overloaded, draining, …    service_unavailable_error
    ├── DeadlineExceeded               504     deadline_exceeded          timeout_error
    ├── InternalError                  500     internal_error             internal_error
    └── UpstreamError                  502     upstream_error             upstream_error
        ├── UpstreamRefused            503     overloaded                 (429: upstream_rate_limited)
        ├── UpstreamAuthError          502     upstream_auth_error
        ├── UpstreamInvalidResponse    502     upstream_invalid_response
        └── UpstreamTimeout            504     upstream_timeout

``code`` is one of a closed list. The message is public text: it never holds what an upstream said
about our credentials, an address, or a traceback. ``detail`` is for the log alone.
"""

from __future__ import annotations

from enum import Enum
from typing import Any, ClassVar


class Sent(Enum):
    """How far an attempt had come when it failed: what decides whether trying again is safe.

    NEVER: no byte of the request left (DNS, connect, TLS, pool). REFUSED: the upstream said no
    before working on it. HARD: it said no for a reason that a repetition does not change.
    AMBIGUOUS: it may have worked, and billed, before the failure.
    """

    NEVER = "never_sent"
    REFUSED = "refused"
    HARD = "hard"
    AMBIGUOUS = "ambiguous"


class GatewayError(Exception):
    """Base of all errors that have an answer for the client.

    ``message``: one sentence for the client. ``param``: the offending field, dotted. ``retry_after_s``:
    whole seconds, ≥ 1, when a time is known. ``detail``: for the log only.
    """

    status: int = 500
    code: str = "internal_error"
    type: ClassVar[str] = "internal_error"
    retryable: bool = False

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        status: int | None = None,
        param: str | None = None,
        retryable: bool | None = None,
        retry_after_s: int | None = None,
        detail: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after_s = retry_after_s
        self.detail = detail
        if code is not None:
            self.code = code
        if status is not None:
            self.status = status
        if retryable is not None:
            self.retryable = retryable

    def body(self, request_id: str) -> dict[str, Any]:
        """The answer in OpenAI's shape."""
        return {
            "error": {
                "message": self.message,
                "type": self.type,
                "param": self.param,
                "code": self.code,
                "request_id": request_id,
            }
        }


class InvalidRequest(GatewayError):
    status, code, type = 400, "invalid_request", "invalid_request_error"


class ContextLengthExceeded(InvalidRequest):
    code = "context_length_exceeded"


class ContentFiltered(InvalidRequest):
    code = "content_filter"


class InvalidApiKey(GatewayError):
    status, code, type = 401, "invalid_api_key", "authentication_error"


class Forbidden(GatewayError):
    """``code``: model_not_allowed, price_unknown, key_expired, kill_switch or redaction_blocked."""

    status, code, type = 403, "model_not_allowed", "permission_error"


class NotFound(GatewayError):
    """``code``: not_found (no such path) or model_not_found."""

    status, code, type = 404, "not_found", "not_found_error"


class MethodNotAllowed(GatewayError):
    """``allow``: the method that the path takes."""

    status, code, type = 405, "method_not_allowed", "invalid_request_error"

    def __init__(self, message: str, *, allow: str) -> None:
        super().__init__(message)
        self.allow = allow


class BodyTooLarge(GatewayError):
    status, code, type = 413, "body_too_large", "invalid_request_error"


class UnsupportedMediaType(GatewayError):
    status, code, type = 415, "unsupported_media_type", "invalid_request_error"


class IdempotencyConflict(GatewayError):
    status, code, type = 422, "idempotency_conflict", "invalid_request_error"


class HeadersTooLarge(GatewayError):
    status, code, type = 431, "headers_too_large", "invalid_request_error"


class LimitExceeded(GatewayError):
    """``code``: rate_limit_exceeded, concurrency_exceeded or budget_exceeded."""

    status, code, type = 429, "rate_limit_exceeded", "rate_limit_error"
    retryable = True


class Unavailable(GatewayError):
    """``code``: overloaded, draining, no_deployment_available, storage_unavailable, …"""

    status, code, type = 503, "overloaded", "service_unavailable_error"
    retryable = True


class DeadlineExceeded(GatewayError):
    status, code, type = 504, "deadline_exceeded", "timeout_error"


class InternalError(GatewayError):
    """A fault of ours; the client gets the request id and nothing else."""


class UpstreamError(GatewayError):
    """A provider failed. ``sent`` says whether trying again may cost twice; ``upstream_status`` is the
    provider's own status (None when there was no answer); ``blames_deployment`` whether the failure is
    evidence against the deployment's health; ``refuses_credential`` whether it holds for all models that
    are called with the same one; ``hint_s`` how long it asked to be left alone."""

    status, code, type = 502, "upstream_error", "upstream_error"
    retryable = True
    sent: Sent = Sent.AMBIGUOUS
    blames_deployment: bool = True
    refuses_credential: bool = False

    def __init__(
        self,
        message: str,
        *,
        sent: Sent | None = None,
        upstream_status: int | None = None,
        blames_deployment: bool | None = None,
        refuses_credential: bool | None = None,
        hint_s: float | None = None,
        **public: Any,
    ) -> None:
        super().__init__(message, **public)
        self.upstream_status = upstream_status
        self.hint_s = hint_s
        if sent is not None:
            self.sent = sent
        if blames_deployment is not None:
            self.blames_deployment = blames_deployment
        if refuses_credential is not None:
            self.refuses_credential = refuses_credential


class UpstreamRefused(UpstreamError):
    """Overloaded or rate limited (their 429 becomes 429 ``upstream_rate_limited``)."""

    status, code = 503, "overloaded"
    sent = Sent.REFUSED


class UpstreamRejected(UpstreamError):
    """The provider said that the request itself is wrong: status and message go to the client."""

    status, code = 400, "invalid_request"
    type = "invalid_request_error"
    retryable = False
    sent = Sent.HARD
    blames_deployment = False


class UpstreamAuthError(UpstreamError):
    """Our credential was refused: the client's own key is fine, and is not told otherwise."""

    code = "upstream_auth_error"
    retryable = False
    sent = Sent.HARD
    refuses_credential = True


class UpstreamInvalidResponse(UpstreamError):
    code = "upstream_invalid_response"


class UpstreamTimeout(UpstreamError):
    status, code = 504, "upstream_timeout"
