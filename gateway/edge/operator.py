"""Who is an operator: asked before anything of a request but its head is read."""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute

from gateway.errors import BodyTooLarge, InvalidApiKey, MethodNotAllowed, NotFound

Token = Callable[[], str | None]
"""What opens the operators' API now, None for nobody."""
MAX_BODY = 64 * 1024
_PART = re.compile(r"({[^}]+})")
_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


def check_operator(token: Token, request: Request) -> None:
    """Raises ``InvalidApiKey``, and ``NotFound`` where there is no token."""
    wanted = token()
    if wanted is None:
        raise NotFound(f"There is no {request.url.path[:200]!r} here.")
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    known = hmac.compare_digest(given.strip().encode(), wanted.encode())
    if scheme.lower() != "bearer" or not known:
        raise InvalidApiKey("The admin token is missing or not valid.")


def operators_only(token: Token) -> type[APIRoute]:
    """A class of routes that read a body of a bounded size, and of operators alone."""

    class OperatorsRoute(APIRoute):
        def get_route_handler(self) -> Handler:
            answer = super().get_route_handler()

            async def handle(request: Request) -> Response:
                check_operator(token, request)
                body = await _body(request)

                async def replay() -> dict[str, Any]:
                    return {"type": "http.request", "body": body, "more_body": False}

                return await answer(Request(request.scope, replay))

            return handle

    return OperatorsRoute


def add_rest(router: APIRouter) -> None:
    """Answers what no route of ``router`` does, so that this too is for operators alone; to be added
    last."""

    @router.api_route("/{rest:path}", methods=_METHODS, include_in_schema=False)
    async def rest(request: Request) -> None:
        path = request.url.path[:200]
        allowed = _allowed(request.app.openapi()["paths"], request.url.path)
        if allowed:
            raise MethodNotAllowed(f"{path!r} does not take {request.method}.", allow=", ".join(allowed))
        raise NotFound(f"There is no {path!r} here.")


def _allowed(described: dict[str, dict[str, object]], path: str) -> list[str]:
    """The methods that ``path`` takes, by the paths of an OpenAPI document."""
    allowed: set[str] = set()
    for template, methods in described.items():
        pattern = "".join(
            ".+" if part.startswith("{") else re.escape(part) for part in _PART.split(template)
        )
        if re.fullmatch(pattern, path):
            allowed.update(method.upper() for method in methods)
    return sorted(allowed)


async def _body(request: Request) -> bytes:
    body = b""
    async for block in request.stream():
        body += block
        if len(body) > MAX_BODY:
            raise BodyTooLarge(f"The body is larger than {MAX_BODY} bytes.")
    return body
