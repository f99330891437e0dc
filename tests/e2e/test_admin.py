"""The operators' API: there only with a token, and closed to everybody without it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.e2e.refusals import assert_refused
from tests.e2e.rig import Gateway
from tests.fakes.answers import chat_body, json_answer
from tests.fakes.upstream import Upstream, send

pytestmark = pytest.mark.asyncio(loop_scope="module")

TOKEN = "operator-token-0123456789abcdef0123456789"
PATHS = ("/admin/v1/deployments", "/admin/v1/openapi.json")


@pytest.fixture(scope="module")
def changes() -> dict[str, Any]:
    return {"server": {"admin_token": TOKEN}}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "key", [None, "", "wrong-token-0123456789abcdef0123456789ab", TOKEN[:-1], "é" * 40]
)
async def test_no_token_no_answer(gateway: Gateway, path: str, key: str | None) -> None:
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    assert_refused(await gateway.ask(path, key=None, headers=headers), 401, "invalid_api_key")


@pytest.mark.parametrize("path", PATHS)
async def test_a_tenants_key_is_no_token(gateway: Gateway, path: str) -> None:
    assert_refused(await gateway.ask(path), 401, "invalid_api_key")


async def test_deployments_show_what_was_learned(gateway: Gateway, upstream: Upstream) -> None:
    upstream.next(send(json_answer(chat_body("fine"))))
    assert (await gateway.chat()).status == 200
    answer = await gateway.ask("/admin/v1/deployments", key=TOKEN)
    assert answer.status == 200
    rows = {row["id"]: row for row in answer.json()["data"]}
    row = rows["chat-1"]
    assert (row["breaker"], row["in_flight"], row["callable"]) == ("closed", 0, True)
    assert row["latency_s"] > 0 and row["cooldown_s"] == 0
    assert TOKEN not in str(rows)


async def test_the_api_is_described(gateway: Gateway) -> None:
    described = (await gateway.ask("/admin/v1/openapi.json", key=TOKEN)).json()
    assert described["openapi"].startswith("3.1")
    paths = {"/admin/v1/deployments", "/admin/v1/spend", "/admin/v1/ledger"}
    assert paths <= described["paths"].keys()


async def test_unknown_paths_are_404(gateway: Gateway) -> None:
    assert_refused(await gateway.ask("/admin/v1/nothing", key=TOKEN), 404, "not_found")
