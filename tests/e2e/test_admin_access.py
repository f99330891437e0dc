"""Every route of the operators' API, for everybody: from the table of routes, so that none is forgotten."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.e2e.operators import ADMIN, TOKEN, admin
from tests.e2e.refusals import assert_refused
from tests.e2e.rig import Gateway

pytestmark = pytest.mark.asyncio(loop_scope="module")

METHODS = ("get", "put", "post", "delete", "patch")
LEAST_ROUTES = 10


@pytest.fixture(scope="module")
def changes() -> dict[str, Any]:
    return ADMIN


async def _routes(gateway: Gateway) -> list[tuple[str, str]]:
    described = (await admin(gateway, "GET", "openapi.json")).json()
    found = [
        (method.upper(), path)
        for path, methods in described["paths"].items()
        for method in METHODS
        if method in methods
    ]
    assert len(found) >= LEAST_ROUTES
    assert ("PUT", "/admin/v1/kill-switches/{scope}/{name}") in found
    return [*found, ("GET", "/admin/v1/openapi.json")]


def _filled(path: str) -> str:
    """With names that nothing has."""
    for name in ("tenant", "id", "scope", "name"):
        path = path.replace(f"{{{name}}}", f"no-such-{name}")
    assert "{" not in path
    return path


async def test_nobody_but_operators(gateway: Gateway) -> None:
    bodies = (None, b"", b"{}", b"no JSON", b"x" * 200_000)
    keys = (None, gateway.key, f"wrong-{TOKEN[6:]}", TOKEN[:-1], TOKEN + "x", "", "é" * 40)
    for method, path in await _routes(gateway):
        for key in keys:
            for body in bodies if method in ("PUT", "POST") else bodies[:1]:
                headers = {} if key is None else {"authorization": f"Bearer {key}"}
                answer = await gateway.ask(_filled(path), body, key=None, headers=headers, method=method)
                assert_refused(answer, 401, "invalid_api_key")


async def test_operators(gateway: Gateway) -> None:
    """With the token something else than a 401 comes, in our shape."""
    for method, path in await _routes(gateway):
        body = {"reason": "why"} if method == "PUT" else {} if method == "POST" else None
        answer = await gateway.ask(_filled(path), body, key=TOKEN, method=method)
        assert answer.status in (200, 201, 400, 404), (method, path, answer.status)
        if answer.status >= 400:
            assert_refused(answer, answer.status, answer.code)
        assert TOKEN.encode() not in answer.body


async def test_other_methods_and_paths(gateway: Gateway) -> None:
    """The same for everybody but operators: nobody learns what is there."""
    for method, path, allow in (
        ("POST", "kill-switches", "GET"),
        ("PATCH", "tenants/acme/keys", "GET, POST"),
        ("PUT", "deployments", "GET"),
        ("GET", "kill-switches/all", "DELETE, PUT"),
    ):
        answer = await admin(gateway, method, path, {})
        assert (answer.status, answer.code) == (405, "method_not_allowed")
        assert answer.header("allow") == allow
        assert_refused(await admin(gateway, method, path, {}, token=None), 401, "invalid_api_key")
    assert_refused(await admin(gateway, "GET", "nothing"), 404, "not_found")
    assert_refused(await admin(gateway, "GET", "nothing", token=gateway.key), 401, "invalid_api_key")


@pytest.mark.parametrize(
    ("method", "path", "body", "param"),
    [
        ("PUT", "kill-switches/all", b"", None),
        ("PUT", "kill-switches/all", b"no JSON", None),
        ("PUT", "kill-switches/all", b"[]", None),
        ("PUT", "kill-switches/all", {}, "reason"),
        ("PUT", "kill-switches/all", {"reason": ""}, "reason"),
        ("PUT", "kill-switches/all", {"reason": "x" * 501}, "reason"),
        ("PUT", "kill-switches/all", {"reason": 7}, "reason"),
        ("PUT", "kill-switches/all", {"reason": "x", "expires_s": 0}, "expires_s"),
        ("PUT", "kill-switches/all", {"reason": "x", "expires_s": "soon"}, "expires_s"),
        ("PUT", "kill-switches/all", {"reason": "x", "cut_stream": True}, "cut_stream"),
        ("PUT", "kill-switches/all/x", {"reason": "x"}, "name"),
        ("PUT", "kill-switches/everything/x", {"reason": "x"}, "scope"),
        ("PUT", "kill-switches/tenant", {"reason": "x"}, "name"),
        ("DELETE", "kill-switches/everything", None, "scope"),
        ("POST", "tenants/acme/keys", {"id": "a b"}, "id"),
        ("POST", "tenants/acme/keys", {"id": "ci"}, "id"),
        ("POST", "tenants/acme/keys", {"expires": "2020-01-01"}, "expires"),
        ("POST", "tenants/acme/keys", {"expires": "tomorrow"}, "expires"),
        ("POST", "tenants/acme/keys", {"models": ["unknown"]}, "models"),
        ("POST", "tenants/acme/keys", {"tags": {"a": "\n"}}, "tags.a"),
        ("POST", "tenants/acme/keys", {"secret": "mine"}, "secret"),
        ("POST", "tenants/acme/keys", {"overlap_s": -1}, "overlap_s"),
    ],
)
async def test_what_cannot_be_asked(
    gateway: Gateway, method: str, path: str, body: Any, param: str | None
) -> None:
    answer = await admin(gateway, method, path, body)
    assert_refused(answer, 400, "invalid_request")
    found = answer.json()["error"]["param"]
    assert found is None if param is None else str(found).startswith(param)


async def test_a_large_body_is_not_taken(gateway: Gateway) -> None:
    answer = await admin(gateway, "PUT", "kill-switches/all", {"reason": "x" * 100_000})
    assert (answer.status, answer.code) == (413, "body_too_large")
    assert (await admin(gateway, "GET", "kill-switches")).json() == {"data": []}


async def test_many_at_a_time(gateway: Gateway) -> None:
    async def one(number: int) -> None:
        path = f"kill-switches/feature/f{number}"
        assert (await admin(gateway, "PUT", path, {"reason": "x"})).status == 200
        assert (await admin(gateway, "DELETE", path)).status == 200

    await asyncio.gather(*(one(number) for number in range(20)))
    assert (await admin(gateway, "GET", "kill-switches")).json() == {"data": []}
