"""The admin API of a running gateway, as commands use it: one readable line for every failure."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated, Any, NoReturn

import typer

TOKEN_VARIABLE = "GATEWAY_ADMIN_TOKEN"  # noqa: S105 - the variable's name
DEFAULT_URL = "http://127.0.0.1:8080"
TIMEOUT_S = 30.0

Url = Annotated[str, typer.Option(help="Base URL of a running gateway.")]
Token = Annotated[
    str | None,
    typer.Option(help=f"The admin token; default: the environment's {TOKEN_VARIABLE}.", show_default=False),
]


def fail(sentence: str) -> NoReturn:
    """Ends the command with one line on standard error and exit code 1."""
    typer.echo(f"error: {sentence}", err=True)
    raise typer.Exit(1)


class AdminClient:
    """``url``: of the gateway, without ``/admin/v1``. ``token`` None: the environment's."""

    def __init__(self, url: str, token: str | None) -> None:
        self._url = _base_url(url)
        self._token = _token(token)

    def get(self, path: str, params: Mapping[str, str] | None = None) -> Any:
        """The decoded body of an answer; ``path`` is what follows ``/admin/v1/``."""
        return self.call("GET", path, params=params)

    def call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        json: Mapping[str, Any] | None = None,
    ) -> Any:
        """The decoded body, None where there is none; whatever else comes ends the command."""
        import httpx

        address = f"{self._url}/admin/v1/{path}"
        headers = {"authorization": f"Bearer {self._token}"}
        try:
            # A proxy of the environment has no business between an operator and the gateway.
            with httpx.Client(timeout=TIMEOUT_S, trust_env=False) as client:
                answer = client.request(method, address, params=params, json=json, headers=headers)
        except httpx.ConnectError:
            fail(f"nobody listens at {self._url}; start the gateway there or name another with --url")
        except httpx.TimeoutException:
            fail(f"{self._url} has not answered within {TIMEOUT_S:.0f} s")
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            fail(f"{self._url} cannot be asked: {error}")
        if answer.is_success:
            return _decoded(answer.content, self._url)
        return fail(self._refusal(answer.status_code, answer.content, path))

    def _refusal(self, status: int, body: bytes, path: str) -> str:
        message = _message(body)
        if status == 401:
            return f"the gateway refuses the admin token; give server.admin_token as {TOKEN_VARIABLE}"
        if status == 404 and path in message:
            return (
                f"{self._url} has no admin API for this: set server.admin_token in its configuration,"
                " and use the gateway's version of this command"
            )
        return message or f"{self._url} answered with status {status} and no explanation"


def _base_url(url: str) -> str:
    if not url.startswith(("http://", "https://")):
        raise typer.BadParameter(f"use a URL such as {DEFAULT_URL}", param_hint="--url")
    return url.rstrip("/").removesuffix("/admin/v1")


def _token(given: str | None) -> str:
    token = given or os.environ.get(TOKEN_VARIABLE, "")
    if not token:
        fail(f"the admin token is missing; set {TOKEN_VARIABLE} or give --token")
    if not token.isascii() or not token.isprintable():
        fail("the admin token holds characters that no token has")
    return token


def _decoded(content: bytes, url: str) -> Any:
    import orjson

    if not content:
        return None
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        return fail(f"{url} answers, but not as a gateway does; check --url")


def _message(body: bytes) -> str:
    import orjson

    try:
        message = orjson.loads(body)["error"]["message"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return ""
    return message if isinstance(message, str) else ""
