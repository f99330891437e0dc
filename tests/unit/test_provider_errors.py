"""What a 403 is about: the credential, one model, or the prompt."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from gateway.errors import Sent, UpstreamAuthError, UpstreamRejected
from gateway.providers.errors import fault, refusal


def refused(status: int, **error: Any) -> Any:
    return refusal(status, lambda name: None, orjson.dumps({"error": error}))


@pytest.mark.parametrize(
    "error",
    [
        {"message": 'openai/gpt-4o requires moderation on OpenAI. Your input was flagged for "x".'},
        {"message": "Content violates usage guidelines."},
        {"code": "content_filter", "message": "no"},
        {"message": "The request was rejected by our safety system."},
        {"message": "no", "innererror": {"code": "ResponsibleAIPolicyViolation"}},
        {"message": "Blocked by content management policy."},
    ],
)
def test_about_the_prompt(error: dict[str, Any]) -> None:
    found = refused(403, **error)
    assert isinstance(found, UpstreamRejected)
    assert (found.status, found.code, found.sent) == (400, "content_filter", Sent.HARD)
    assert not found.blames_deployment and not found.refuses_credential


@pytest.mark.parametrize(
    "error",
    [
        {"code": "unsupported_country_region_territory", "message": "Not supported."},
        {"message": "Project `p` does not have access to model `gpt-4`."},
        {"message": "You don't have access to the model with the specified model ID."},
        {"message": "Your API key does not have permission to use the specified resource."},
    ],
)
def test_about_one_model(error: dict[str, Any]) -> None:
    found = refused(403, **error)
    assert isinstance(found, UpstreamAuthError)
    assert not found.refuses_credential


@pytest.mark.parametrize(
    "error",
    [
        {},
        {"message": "Forbidden"},
        {"code": "invalid_api_key", "message": "This key was revoked."},
        {"message": "No identity-based policy allows this action."},
    ],
)
def test_about_the_credential(error: dict[str, Any]) -> None:
    found = refused(403, **error)
    assert isinstance(found, UpstreamAuthError)
    assert found.refuses_credential
    assert "key" not in found.message


def test_a_401_is_about_the_credential_whatever_it_says() -> None:
    assert refused(401, message="This model needs moderation.").refuses_credential


@pytest.mark.parametrize(("code", "whole"), [("insufficient_quota", True), ("rate_limit_exceeded", False)])
def test_a_used_up_quota_is_the_credentials(code: str, whole: bool) -> None:
    assert refused(429, code=code).refuses_credential is whole


def test_the_same_inside_a_200() -> None:
    said = {"type": "permission_error", "message": "Flagged by moderation."}
    assert fault(said).code == "content_filter"
    assert fault({"type": "authentication_error", "message": "no"}).refuses_credential
