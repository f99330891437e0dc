"""Tenants and their budgets, and the configuration, in the operators' API."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field


class BudgetState(BaseModel):
    """Money as decimal US dollars; of the whole fleet."""

    scope: str = Field(description="tenant, key:<id> or feature:<name>.")
    period: Literal["hour", "day", "week", "month", "total"]
    limit_usd: str
    spent_usd: str
    reserved_usd: str = Field(description="By requests that run, and set aside for a lost store.")
    remaining_usd: str
    returns: str | None = Field(description="When the period ends, None for total.")


class LimitState(BaseModel):
    rpm: int | None
    tpm: int | None
    concurrency: int | None


class TenantState(BaseModel):
    tenant: str
    models: list[str] | None = Field(description="None: all.")
    limits: LimitState
    budgets: list[BudgetState] | None = Field(description="None: the store cannot be asked just now.")


class Tenants(BaseModel):
    data: list[TenantState]


def tenants_router(
    tenants: Callable[[], Awaitable[list[TenantState]]], config: Callable[[], dict[str, Any]]
) -> APIRouter:
    router = APIRouter()

    @router.get("/tenants", summary="Tenants, their limits, and what is left of their budgets")
    async def list_tenants() -> Tenants:
        return Tenants(data=await tenants())

    @router.get("/config", summary="The configuration as it is in force, without secrets")
    async def show_config() -> dict[str, Any]:
        return config()

    return router
