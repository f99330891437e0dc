"""The operators' API as operators use it."""

from __future__ import annotations

import secrets
from typing import Any

import orjson

from tests.e2e.rig import Gateway
from tests.fakes.client import Answer

TOKEN = f"operator-{secrets.token_hex(24)}"
ADMIN = {"server": {"admin_token": TOKEN}}


async def admin(
    gateway: Gateway, method: str, path: str, body: Any = None, *, token: str | None = TOKEN
) -> Answer:
    """``path``: what follows ``/admin/v1/``."""
    raw = None if body is None else body if isinstance(body, bytes) else orjson.dumps(body)
    return await gateway.ask(f"/admin/v1/{path}", raw, key=token, method=method)


async def kill(gateway: Gateway, place: str, **fields: Any) -> dict[str, Any]:
    answer = await admin(
        gateway, "PUT", f"kill-switches/{place}", {"reason": "because of a test", **fields}
    )
    assert answer.status == 200, answer.body
    return dict(answer.json())


async def unkill(gateway: Gateway, place: str) -> None:
    answer = await admin(gateway, "DELETE", f"kill-switches/{place}")
    assert answer.status == 200, answer.body


async def new_key(gateway: Gateway, tenant: str = "acme", **fields: Any) -> dict[str, Any]:
    """Its secret must be found nowhere from now on."""
    answer = await admin(gateway, "POST", f"tenants/{tenant}/keys", fields)
    assert answer.status == 201, answer.body
    made = dict(answer.json())
    gateway.secrets.append(made["secret"])
    return made
