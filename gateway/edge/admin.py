"""The operators' API, under ``/admin/v1``: there only where a token is configured."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, Field

from gateway.edge.operator import Token, add_rest, check_operator

PREFIX = "/admin/v1"


class DeploymentState(BaseModel):
    """What the gateway knows of a deployment; of several workers' knowledge the worst."""

    id: str
    model: str = Field(description="The model group.")
    provider: str
    upstream_model: str
    weight: int
    callable: bool = Field(description="Whether a request could go there now.")
    stopped: bool = Field(description="Whether a kill switch has stopped it.")
    breaker: Literal["closed", "half-open", "open"]
    open_for_s: float = Field(description="Seconds until a probe, 0 unless the breaker is open.")
    cooldown_s: float = Field(description="Seconds for which its provider asked to be left alone.")
    quota_left: dict[str, int] | None = Field(
        description="Of rpm and tpm, as far as is known here; None: no quota is configured."
    )
    in_flight: int
    latency_s: float | None = Field(description="Usual time to the first event, None if unknown.")


class Deployments(BaseModel):
    data: list[DeploymentState]


def admin_router(
    token: Token,
    deployments: Callable[[], Awaitable[list[DeploymentState]]],
    parts: Sequence[APIRouter] = (),
) -> APIRouter:
    """``token``: what opens it now, None for nobody. ``parts``: what belongs to it beside."""

    def operator(request: Request) -> None:
        check_operator(token, request)

    router = APIRouter(prefix=PREFIX, dependencies=[Depends(operator)])

    @router.get("/deployments", summary="Health, breaker, cooldown and latency of every deployment")
    async def list_deployments() -> Deployments:
        return Deployments(data=await deployments())

    for part in parts:
        router.include_router(part)

    @router.get("/openapi.json", include_in_schema=False)
    async def openapi(request: Request) -> Annotated[dict[str, object], "OpenAPI 3.1"]:
        schema: dict[str, object] = request.app.openapi()
        return schema

    add_rest(router)
    return router
