"""For operators: liveness, readiness, metrics; errors in the shape that clients know."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from gateway.edge.request_id import accept_request_id, new_request_id
from gateway.errors import GatewayError, InternalError, InvalidRequest, MethodNotAllowed, NotFound
from gateway.heads import retry_headers

Readiness = Callable[[], Awaitable[dict[str, Any]]]
Render = Callable[[], Awaitable[bytes]]

_READ = ["GET", "HEAD"]
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def ops_app(
    readiness: Readiness,
    render_metrics: Render,
    failed: Callable[[str, BaseException, str], None],
    admin: APIRouter,
) -> FastAPI:
    """``readiness``: ``{"ready": bool, "reasons": […], …}``."""
    app = FastAPI(
        title="llm-gateway", docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False
    )

    app.include_router(admin)

    @app.api_route("/healthz", methods=_READ, include_in_schema=False)
    async def healthz(request: Request) -> Response:
        return _json(request, {"status": "ok"})

    @app.api_route("/readyz", methods=_READ, include_in_schema=False)
    async def readyz(request: Request) -> Response:
        state = await readiness()
        return _json(request, state, 200 if state["ready"] else 503)

    @app.api_route("/metrics", methods=_READ, include_in_schema=False)
    async def metrics(request: Request) -> Response:
        headers = {"x-request-id": _request_id(request)}
        return Response(await render_metrics(), media_type=METRICS_TYPE, headers=headers)

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return _refusal(_mapped(request, error), _request_id(request))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return _refusal(_invalid(error), _request_id(request))

    @app.exception_handler(GatewayError)
    async def denied(request: Request, error: Exception) -> Response:
        assert isinstance(error, GatewayError)
        return _refusal(error, _request_id(request))

    @app.exception_handler(Exception)
    async def broken(request: Request, error: Exception) -> Response:
        request_id = _request_id(request)
        failed("internal_error", error, request_id)
        return _refusal(InternalError("The gateway failed."), request_id)

    return app


def _mapped(request: Request, error: HTTPException) -> GatewayError:
    path = request.url.path[:200]
    if error.status_code == 404:
        return NotFound(f"There is no {path!r} here.")
    if error.status_code == 405:
        return MethodNotAllowed(
            f"{path!r} does not take {request.method}.",
            allow=(error.headers or {}).get("allow", "GET"),
        )
    return InvalidRequest("The request cannot be answered.")


def _invalid(error: RequestValidationError) -> InvalidRequest:
    """Of several faults the first; nothing of what was sent but the names of its fields."""
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return InvalidRequest("The body is not valid JSON.")
    field = ".".join(str(part) for part in first["loc"][1:])[:200] or None
    message = str(first["msg"]).removeprefix("Value error, ")
    return InvalidRequest(f"{field or 'The body'}: {message}", param=field)


def _request_id(request: Request) -> str:
    asked = request.headers.get("x-request-id", "").encode("latin-1")
    return accept_request_id(asked) or new_request_id()


def _json(request: Request, native: dict[str, Any], status: int = 200) -> Response:
    return Response(
        orjson.dumps(native),
        status,
        media_type="application/json",
        headers={"x-request-id": _request_id(request)},
    )


def _refusal(error: GatewayError, request_id: str) -> Response:
    response = Response(orjson.dumps(error.body(request_id)), error.status, media_type="application/json")
    response.headers["x-request-id"] = request_id
    for name, value in retry_headers(error):
        response.headers[name.decode()] = value.decode()
    return response
