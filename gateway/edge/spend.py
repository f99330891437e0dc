"""Spend, redactions and ledger for operators, under ``/admin/v1``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field

from gateway.accounting.redaction_report import ask_redactions
from gateway.accounting.sources import Source
from gateway.accounting.spend import ask
from gateway.errors import InvalidRequest


class Spent(BaseModel):
    """One group's part. Money: US dollars as text with nine decimals."""

    group: dict[str, str | None]
    cost_usd: str = Field(description="What providers bill, for all attempts.")
    charged_usd: str = Field(description="What counts against budgets.")
    requests: int
    input_tokens: int
    output_tokens: int


class Spend(BaseModel):
    total_usd: str = Field(description="Sum of all cost_usd.")
    data: list[Spent]


class Found(BaseModel):
    """One group's part."""

    group: dict[str, str]
    count: int = Field(description="Finds of personal data.")
    requests: int = Field(
        description="Distinct requests that held them; at most so many where a writer saw more than"
        " 5000 combinations of finds in a day."
    )


class Redactions(BaseModel):
    total: int = Field(description="Sum of all counts.")
    data: list[Found]
    skipped: dict[str, int] = Field(description="Parts that were passed without a search, by kind.")
    blocked: dict[str, int] = Field(description="Requests that were ended by an entity.")
    failed: dict[str, int] = Field(description="Requests that went on unsearched, by direction.")


class LedgerRows(BaseModel):
    data: list[dict[str, Any]]


_From = Annotated[
    str | None,
    Query(alias="from", description="A date or RFC 3339 time; rounded down to its hour, UTC."),
]
_To = Annotated[
    str | None,
    Query(description="A date (that day included) or RFC 3339 time; rounded up to the hour, UTC."),
]
_GroupBy = Annotated[
    str | None,
    Query(
        description="Comma-separated: tenant, key, feature, user, model, provider, deployment, day, hour,"
        " or the name of a tag (tag:NAME where it is one of these)."
    ),
]


_RedactionsGroupBy = Annotated[
    str | None,
    Query(
        description="Comma-separated: tenant, entity, direction, model, day, hour; if absent,"
        " tenant,entity,direction; if empty, one group of everything."
    ),
]


def spend_router(source: Source, catch_up: Callable[[], Awaitable[None]]) -> APIRouter:
    """To be included behind the admin token. ``catch_up``: returns when what has ended up to now can be
    found."""
    router = APIRouter()

    @router.get("/spend", summary="What was spent, by tenant, feature, user, model, tag and time")
    async def spend(
        request: Request,
        tenant: str | None = None,
        key: str | None = None,
        feature: str | None = None,
        user: str | None = None,
        model: str | None = None,
        provider: str | None = None,
        deployment: str | None = None,
        from_: _From = None,
        to: _To = None,
        group_by: _GroupBy = None,
    ) -> Spend:
        question = ask(request.query_params.multi_items())
        await catch_up()
        return Spend.model_validate(await source.spend(question))

    @router.get(
        "/redactions", summary="What was found of personal data, by tenant, entity, direction and time"
    )
    async def redactions(
        request: Request,
        tenant: str | None = None,
        entity: str | None = None,
        direction: Annotated[str | None, Query(json_schema_extra={"enum": ["input", "output"]})] = None,
        model: str | None = None,
        from_: _From = None,
        to: _To = None,
        group_by: _RedactionsGroupBy = None,
    ) -> Redactions:
        question = ask_redactions(request.query_params.multi_items())
        await catch_up()
        return Redactions.model_validate(await source.redactions(question))

    @router.get("/ledger", summary="The ledger's rows of a request")
    async def ledger(request: Request, request_id: str = "") -> LedgerRows:
        unknown = [name for name in request.query_params if name != "request_id"]
        if unknown or not request_id:
            raise InvalidRequest("Name one request: ledger?request_id=…", param="request_id")
        await catch_up()
        return LedgerRows(data=await source.rows(request_id))

    return router
