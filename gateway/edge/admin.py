"""The operators' API, under ``/admin/v1``: there only where a token is configured."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, Field

from gateway.errors import InvalidApiKey, NotFound

PREFIX = "/admin/v1"


class DeploymentState(BaseModel):
    """What the gateway knows of a deployment; of this process alone."""

    id: str
    model: str = Field(description="The model group.")
    provider: str
    upstream_model: str
    weight: int
    callable: bool = Field(description="Whether a request could go there now.")
    breaker: Literal["closed", "half-open", "open"]
    open_for_s: float = Field(description="Seconds until a probe, 0 unless the breaker is open.")
    cooldown_s: float = Field(description="Seconds for which its provider asked to be left alone.")
    in_flight: int
    latency_s: float | None = Field(description="Usual time to the first event, None if unknown.")


class Deployments(BaseModel):
    data: list[DeploymentState]


def admin_router(
    token: Callable[[], str | None], deployments: Callable[[], list[DeploymentState]]
) -> APIRouter:
    """``token``: what opens it now, None for nobody."""

    def operator(request: Request) -> None:
        wanted = token()
        if wanted is None:
            raise NotFound(f"There is no {request.url.path[:200]!r} here.")
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        known = hmac.compare_digest(given.strip().encode(), wanted.encode())
        if scheme.lower() != "bearer" or not known:
            raise InvalidApiKey("The admin token is missing or not valid.")

    router = APIRouter(prefix=PREFIX, dependencies=[Depends(operator)])

    @router.get("/deployments", summary="Health, breaker, cooldown and latency of every deployment")
    async def list_deployments() -> Deployments:
        return Deployments(data=deployments())

    @router.get("/openapi.json", include_in_schema=False)
    async def openapi(request: Request) -> Annotated[dict[str, object], "OpenAPI 3.1"]:
        schema: dict[str, object] = request.app.openapi()
        return schema

    return router
