"""Virtual keys by the operators' API: made, listed, rotated and revoked while the gateway serves."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from tests.e2e.operators import ADMIN, admin, new_key
from tests.e2e.refusals import assert_refused
from tests.e2e.rig import CHAT, Gateway, chat, group
from tests.e2e.served import SOON_S
from tests.fakes.answers import chat_body, json_answer
from tests.fakes.client import request
from tests.fakes.upstream import Upstream, send

pytestmark = pytest.mark.asyncio(loop_scope="module")

OK = json_answer(chat_body("fine"))
LIMITED, NARROW = (f"sk-gw-{secrets.token_urlsafe(24)}" for _ in range(2))


def _hash(key: str) -> str:
    return f"sha256:{hashlib.sha256(key.encode()).hexdigest()}"


@pytest.fixture(scope="module")
def changes() -> dict[str, Any]:
    keys = [{"id": "limited", "hash": _hash(LIMITED), "limits": {"rpm": 100}}]
    timed = {"id": "timed", "hash": _hash(NARROW), "expires": "2020-01-31T18:00:00Z"}
    return {
        **ADMIN,
        "models": {"small": group()},
        "aliases": {"fast": "chat"},
        "tenants": {
            "team/a": {"models": ["*"], "keys": keys},
            "rate": {"models": ["*"]},
            "rate/keys/app": {"models": ["*"]},
            "narrow": {"models": ["small"], "keys": [timed]},
        },
    }


async def models(gateway: Gateway, key: str) -> tuple[int, list[str]]:
    answer = await gateway.ask("/v1/models", key=key)
    return answer.status, [one["id"] for one in answer.json().get("data", [])]


async def listed(gateway: Gateway, tenant: str = "acme") -> dict[str, dict[str, Any]]:
    answer = await admin(gateway, "GET", f"tenants/{tenant}/keys")
    assert answer.status == 200
    return {one["id"]: one for one in answer.json()["data"]}


async def test_a_new_key_works_at_once(gateway: Gateway, upstream: Upstream) -> None:
    made = await new_key(gateway, id="web", tags={"feature": "search"}, models=["chat"])
    assert (made["id"], made["tenant"], made["hash"]) == ("web", "acme", _hash(made["secret"]))
    assert await models(gateway, made["secret"]) == (200, ["chat", "fast"])
    upstream.next(send(OK))
    answer = await gateway.ask(CHAT, chat(), key=made["secret"])
    row = await gateway.row(answer.header("x-request-id") or "")
    assert (row["tenant"], row["key"], row["feature"]) == ("acme", "web", "search")
    assert_refused(
        await gateway.ask(CHAT, chat(model="small"), key=made["secret"]), 403, "model_not_allowed"
    )


async def test_lists_show_no_secret(gateway: Gateway) -> None:
    made = await new_key(gateway, expires="2999-12-31", strict=True)
    answer = await admin(gateway, "GET", "tenants/acme/keys")
    assert made["secret"].encode() not in answer.body and made["hash"].encode() not in answer.body
    found = (await listed(gateway))[made["id"]]
    assert found["source"] == "api" and found["hash_ends"] == made["hash"][-4:]
    assert (found["expires"], found["strict"]) == ("3000-01-01T00:00:00.000Z", True)
    configured = (await listed(gateway))["ci"]
    assert (configured["source"], configured["created"], configured["revoked"]) == ("file", None, None)
    one = await admin(gateway, "GET", f"tenants/acme/keys/{made['id']}")
    assert one.json() == found
    for tenant in ("nobody", "acm"):
        assert_refused(await admin(gateway, "GET", f"tenants/{tenant}/keys"), 404, "not_found")
        assert_refused(await admin(gateway, "POST", f"tenants/{tenant}/keys", {}), 404, "not_found")
    assert_refused(await admin(gateway, "GET", "tenants/acme/keys/nobody"), 404, "not_found")
    assert_refused(await admin(gateway, "DELETE", "tenants/acme/keys/nobody"), 404, "not_found")


async def test_a_revoked_key_is_refused_on_its_next_request(gateway: Gateway) -> None:
    made = await new_key(gateway, "team/a", id="to/go")
    async with gateway.client() as client:
        for status in (200, 401):
            await client.send(request("/v1/models", key=made["secret"]))
            answer = await client.read()
            assert answer.status == status
            gone = await admin(gateway, "DELETE", "tenants/team/a/keys/to/go")
            assert gone.status == 200 and gone.json()["revoked"] and gone.json()["shared"]
        assert_refused(answer, 401, "invalid_api_key")
    assert (await listed(gateway, "team/a"))["to/go"]["revoked"]
    again = await new_key(gateway, "team/a", id="to/go")
    assert (await models(gateway, again["secret"]))[0] == 200
    assert (await models(gateway, made["secret"]))[0] == 401


@pytest.mark.parametrize(
    ("tenant", "id"),
    [
        ("rate", "app/keys/1"),
        ("rate", "keys/1"),
        ("rate", "/keys/"),
        ("rate", "keys"),
        ("rate", "a/keys"),
        ("rate", "a/keys/b/keys/c"),
        ("rate/keys/app", "keys/keys"),
        ("team/a", "x/keys/y"),
    ],
)
async def test_names_with_slashes(gateway: Gateway, tenant: str, id: str) -> None:
    made = await new_key(gateway, tenant, id=id)
    found = await admin(gateway, "GET", f"tenants/{tenant}/keys/{id}")
    assert (found.status, found.json()["tenant"], found.json()["id"]) == (200, tenant, id)
    turned = await new_key(gateway, tenant, rotate=id, id=f"{id}/new")
    for one in (id, f"{id}/new"):
        gone = await admin(gateway, "DELETE", f"tenants/{tenant}/keys/{one}")
        assert (gone.status, gone.json()["tenant"], gone.json()["id"]) == (200, tenant, one)
    for key in (made, turned):
        assert (await models(gateway, key["secret"]))[0] == 401


async def test_a_path_that_means_two_keys(gateway: Gateway) -> None:
    """None is revoked for the other."""
    place = "tenants/rate/keys/app/keys/2"
    short = await new_key(gateway, "rate", id="app/keys/2")
    assert (await admin(gateway, "GET", place)).json()["tenant"] == "rate"
    long = await new_key(gateway, "rate/keys/app", id="2")
    for method in ("GET", "DELETE"):
        answer = await admin(gateway, method, place)
        assert_refused(answer, 400, "invalid_request")
        assert "?owner=rate or ?owner=rate/keys/app" in answer.json()["error"]["message"]
    for owner, states in (("rate", (401, 200)), ("rate/keys/app", (401, 401))):
        gone = await admin(gateway, "DELETE", f"{place}?owner={owner}")
        assert (gone.status, gone.json()["tenant"]) == (200, owner)
        assert tuple([(await models(gateway, key["secret"]))[0] for key in (short, long)]) == states
    assert_refused(await admin(gateway, "DELETE", f"{place}?owner=acme"), 404, "not_found")


async def test_a_list_and_a_key_by_the_same_path(gateway: Gateway) -> None:
    await new_key(gateway, "rate", id="app/keys")
    place = "tenants/rate/keys/app/keys"
    assert "data" in (await admin(gateway, "GET", place)).json()
    assert (await admin(gateway, "GET", f"{place}?owner=rate")).json()["id"] == "app/keys"
    gone = await admin(gateway, "DELETE", place)
    assert (gone.status, gone.json()["id"]) == (200, "app/keys")


async def test_expiry_is_a_day_or_a_time(gateway: Gateway) -> None:
    soon = datetime.now(timezone.utc) + timedelta(seconds=0.7)
    made = await new_key(gateway, expires=soon.isoformat())
    assert (await models(gateway, made["secret"]))[0] == 200
    async with asyncio.timeout(SOON_S):
        while (answer := await gateway.ask("/v1/models", key=made["secret"])).status == 200:
            await asyncio.sleep(0.05)
    assert_refused(answer, 403, "key_expired")
    assert_refused(await gateway.ask("/v1/models", key=NARROW), 403, "key_expired")
    assert (await listed(gateway, "narrow"))["timed"]["expires"] == "2020-01-31T18:00:00.000Z"
    today = datetime.now(timezone.utc).date()
    key = await new_key(gateway, expires=today.isoformat())
    assert (await models(gateway, key["secret"]))[0] in (200, 403)  # 403 in the last moment of a day
    for wrong in ("2999-01-01T00:00:00", "2999-02-30", "tomorrow", "", 32472144000, "2999-01-01T25:00Z"):
        answer = await admin(gateway, "POST", "tenants/acme/keys", {"expires": wrong})
        assert_refused(answer, 400, "invalid_request")
    for given, shown in (
        ("2999-01-01T00:00:00Z", "2999-01-01T00:00:00.000Z"),
        ("2999-01-01T02:30:00+02:30", "2999-01-01T00:00:00.000Z"),
        ("9999-12-31", "9999-12-31T23:59:59.000Z"),
    ):
        assert (await new_key(gateway, expires=given))["expires"] == shown


async def test_rotation_overlaps(gateway: Gateway) -> None:
    old = await new_key(gateway, id="rotated", models=["small"], tags={"team": "x"})
    new = await new_key(gateway, rotate="rotated", overlap_s=1.0)
    assert (new["replaces"], new["models"], new["tags"]) == ("rotated", ["small"], {"team": "x"})
    assert await models(gateway, old["secret"]) == await models(gateway, new["secret"]) == (200, ["small"])
    async with asyncio.timeout(SOON_S):
        while (answer := await gateway.ask("/v1/models", key=old["secret"])).status == 200:
            await asyncio.sleep(0.05)
    assert_refused(answer, 403, "key_expired")
    assert await models(gateway, new["secret"]) == (200, ["small"])
    answer = await admin(gateway, "POST", "tenants/acme/keys", {"rotate": "rotated"})
    assert_refused(answer, 404, "not_found")
    answer = await admin(gateway, "POST", "tenants/team/a/keys", {"rotate": "limited"})
    assert_refused(answer, 400, "invalid_request")


async def test_a_tenants_rights_bound_its_keys(gateway: Gateway) -> None:
    made = await new_key(gateway, "narrow", models=["*"])
    assert await models(gateway, made["secret"]) == (200, ["small"])


async def test_many_keys_at_a_time(gateway: Gateway) -> None:
    made = await asyncio.gather(*(new_key(gateway) for _ in range(20)))
    assert {(await models(gateway, one["secret"]))[0] for one in made} == {200}
    await asyncio.gather(*(admin(gateway, "DELETE", f"tenants/acme/keys/{one['id']}") for one in made))
    assert {(await models(gateway, one["secret"]))[0] for one in made} == {401}


async def test_a_key_of_the_configuration_can_be_revoked(gateway: Gateway) -> None:
    assert (await models(gateway, LIMITED))[0] == 200
    answer = await admin(gateway, "DELETE", "tenants/team/a/keys/limited")
    assert (answer.status, answer.json()["source"]) == (200, "file")
    assert (await models(gateway, LIMITED))[0] == 401
