"""Kill switches by the operators' API: the next request obeys, and running ones where that is meant."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import quote

import orjson
import pytest

from tests.e2e.operators import ADMIN, TOKEN, admin, kill, new_key, unkill
from tests.e2e.refusals import assert_refused
from tests.e2e.rig import CHAT, PRICE, Gateway, chat, group, samples
from tests.e2e.served import SOON_S, came
from tests.fakes.answers import chat_body, chat_stream, json_answer, open_stream
from tests.fakes.client import request
from tests.fakes.upstream import Upstream, hang, send, wait

pytestmark = pytest.mark.asyncio(loop_scope="module")

OK = json_answer(chat_body("fine"))
BEGUN = chat_stream(["one ", "two "])[:3]


@pytest.fixture(scope="module")
def changes(upstream: Upstream) -> dict[str, Any]:
    fake = {"kind": "openai", "base_url": f"{upstream.url}/v1"}
    pair = [
        {"id": f"pair-{name}", "provider": name, "model": f"at-{name}", "price": PRICE} for name in "ab"
    ]
    return {
        **ADMIN,
        "providers": {"a": fake, "b": fake},
        "models": {
            "other": group(),
            "pair": group(deployments=pair, strategy="ordered"),
            "last": group(fallbacks=["other"]),
        },
        "aliases": {"alias": "chat"},
    }


async def metric(gateway: Gateway) -> dict[tuple[str, str], float]:
    found = samples(await gateway.metrics()).get("gateway_kill_switch", [])
    return {(labels["scope"], labels["name"]): value for labels, value in found}


@pytest.mark.parametrize(
    ("place", "shown"),
    [
        ("all", "all"),
        ("tenant/acme", "tenant acme"),
        ("key/acme/ci", "key acme/ci"),
        ("key/ci", "key acme/ci"),
        ("feature/a%20b%2Fc", "feature a b/c"),
        ("model/chat", "model chat"),
        ("model/alias", "model chat"),
        ("provider/fake", "provider fake"),
        ("deployment/chat-1", "deployment chat-1"),
    ],
)
async def test_the_next_request_obeys(gateway: Gateway, upstream: Upstream, place: str, shown: str) -> None:
    headers = {"x-gateway-feature": "a b/c"}
    async with gateway.client() as client:  # a connection that is open already

        async def ask() -> Any:
            await client.send(request(CHAT, chat(), key=gateway.key, headers=headers))
            return await client.read()

        upstream.next(send(OK))
        assert (await ask()).status == 200
        switch = await kill(gateway, place)
        answer = await ask()
        assert_refused(answer, 403, "kill_switch")
        message = answer.json()["error"]["message"]
        assert message == f"Stopped by an operator's kill switch ({shown}): because of a test"
        scope, _, name = shown.partition(" ")
        assert (switch["scope"], switch["name"], switch["shared"]) == (scope, name, True)
        assert switch["known"] is (scope != "feature")
        assert await metric(gateway) == {(scope, name): 1}
        listed = (await admin(gateway, "GET", "kill-switches")).json()["data"]
        assert [(one["scope"], one["name"], one["source"]) for one in listed] == [(scope, name, "api")]
        assert (await gateway.ask("/v1/models")).status == 200
        await unkill(gateway, place)
        upstream.next(send(OK))
        assert (await ask()).status == 200
    assert await metric(gateway) == {}


async def test_others_go_on(gateway: Gateway, upstream: Upstream) -> None:
    for place in ("tenant/nobody", "key/acme/other", "feature/x", "model/other", "provider/a"):
        await kill(gateway, place)
    upstream.next(send(OK))
    assert (await gateway.chat()).status == 200
    for place in ("tenant/nobody", "key/acme/other", "feature/x", "model/other", "provider/a"):
        await unkill(gateway, place)


async def test_a_stopped_provider_is_passed_over(gateway: Gateway, upstream: Upstream) -> None:
    async def answered_by() -> str | None:
        upstream.next(send(OK))
        answer = await gateway.chat(model="pair")
        assert answer.status == 200 and answer.header("x-gateway-attempts") == "1"
        return answer.header("x-gateway-deployment")

    assert await answered_by() == "pair-a"
    await kill(gateway, "provider/a")
    assert await answered_by() == "pair-b"
    rows = (await admin(gateway, "GET", "deployments")).json()["data"]
    assert {row["id"]: (row["stopped"], row["callable"]) for row in rows if row["model"] == "pair"} == {
        "pair-a": (True, False),
        "pair-b": (False, True),
    }
    await kill(gateway, "deployment/pair-b")
    assert_refused(await gateway.chat(model="pair"), 403, "kill_switch")
    await unkill(gateway, "provider/a")
    assert await answered_by() == "pair-a"
    await unkill(gateway, "deployment/pair-b")


async def test_nobody_falls_back_to_a_stopped_model(gateway: Gateway, upstream: Upstream) -> None:
    await kill(gateway, "model/other")
    upstream.next(send(b"HTTP/1.1 500 Broken\r\ncontent-length: 0\r\n\r\n"))
    assert (await gateway.chat(model="last")).status == 502
    await unkill(gateway, "model/other")


async def test_a_switch_expires(gateway: Gateway, upstream: Upstream) -> None:
    switch = await kill(gateway, "provider/fake", expires_s=0.5)
    assert switch["expires"] > switch["since"]
    assert (await gateway.chat()).status == 403
    async with asyncio.timeout(SOON_S):
        while await metric(gateway):
            await asyncio.sleep(0.05)
    upstream.next(send(OK))
    assert (await gateway.chat()).status == 200
    assert (await admin(gateway, "GET", "kill-switches")).json() == {"data": []}


@pytest.mark.parametrize(
    "place", ["all", "tenant/acme", "key/acme/ci", "model/chat", "provider/fake", "deployment/chat-1"]
)
async def test_running_streams_are_cut(gateway: Gateway, upstream: Upstream, place: str) -> None:
    """With a typed error as the last event, and one row in the ledger."""
    upstream.next(open_stream(*BEGUN), hang())
    async with gateway.client() as client:
        await client.send(request(CHAT, chat(stream=True), key=gateway.key))
        head = await client.read_head()
        assert head.status == 200
        first = await client.read_event()
        assert first is not None and b"[DONE]" not in first
        await kill(gateway, place, cut_streams=True)
        rest = []
        while (event := await client.read_event()) is not None:
            rest.append(event)
    await unkill(gateway, place)
    error = orjson.loads(rest[-1])["error"]
    assert error["code"] == "kill_switch" and error["type"] == "permission_error"
    assert b"[DONE]" not in rest
    row = await gateway.row(head.header("x-request-id") or "")
    assert (row["outcome"], row["error_code"]) == ("partial", "kill_switch")
    await upstream.last.left(SOON_S)


async def test_running_streams_that_do_not_match_go_on(gateway: Gateway, upstream: Upstream) -> None:
    upstream.next(send(_buffered_head(), OK_BODY[:10]), wait(0.3), send(OK_BODY[10:]))
    task = asyncio.gather(gateway.chat())
    await asyncio.sleep(0.1)
    await kill(gateway, "model/other", cut_streams=True)
    await kill(gateway, "model/chat")  # without cutting
    assert (await task)[0].status == 200
    await unkill(gateway, "model/other")
    await unkill(gateway, "model/chat")


OK_BODY = OK.partition(b"\r\n\r\n")[2]


def _buffered_head() -> bytes:
    return OK.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"


async def test_a_buffered_request_is_cut_with_a_status(gateway: Gateway, upstream: Upstream) -> None:
    upstream.next(hang())
    task = asyncio.gather(gateway.chat())
    await came(upstream, len(upstream.seen) + 1)
    await kill(gateway, "tenant/acme", cut_streams=True)
    (answer,) = await task
    await unkill(gateway, "tenant/acme")
    assert_refused(answer, 403, "kill_switch")
    assert (await gateway.row(answer.header("x-request-id") or ""))["error_code"] == "kill_switch"


async def test_a_revoked_key_cuts_its_streams_alone(gateway: Gateway, upstream: Upstream) -> None:
    key = await new_key(gateway)
    upstream.next(open_stream(*BEGUN), hang())
    async with gateway.client() as client:
        await client.send(request(CHAT, chat(stream=True), key=key["secret"]))
        assert (await client.read_head()).status == 200
        await client.read_event()
        answer = await admin(gateway, "DELETE", f"tenants/acme/keys/{key['id']}?cut_streams=true")
        assert answer.status == 200
        last = b""
        while (event := await client.read_event()) is not None:
            last = event
        assert orjson.loads(last)["error"]["code"] == "kill_switch"


async def test_names_of_any_kind(gateway: Gateway) -> None:
    for name in ("a/b/c", "ümlaut", "100%", "a?b#c", " spaced ", "x" * 200):
        place = f"feature/{quote(name, safe='')}"
        assert (await kill(gateway, place))["name"] == name
        await unkill(gateway, place)
    assert_refused(await admin(gateway, "DELETE", "kill-switches/model/chat"), 404, "not_found")


async def test_the_log_says_what_was_done_and_never_the_token(gateway: Gateway) -> None:
    await kill(gateway, "feature/logged")
    await unkill(gateway, "feature/logged")

    def lines(event: str) -> list[dict[str, Any]]:
        return [line for line in gateway.log(event) if line.get("name") == "logged"]

    async with asyncio.timeout(SOON_S):
        while len(lines("admin")) < 2 or not lines("kill_switch_off"):
            await asyncio.sleep(0.02)
    done = lines("admin")
    assert [line["action"] for line in done] == ["put_kill_switch", "delete_kill_switch"]
    assert done[0]["client"] == "127.0.0.1" and done[0]["reason"] == "because of a test"
    assert len(lines("kill_switch_on")) == 1
    assert TOKEN not in gateway.stderr.read_text()


async def test_propagation_and_staleness_are_measured(gateway: Gateway) -> None:
    await kill(gateway, "feature/measured")
    await unkill(gateway, "feature/measured")
    found = samples(await gateway.metrics())
    assert found["gateway_kill_switch_propagation_seconds_count"][0][1] >= 2
    assert found["gateway_control_stale_seconds"][0][1] == 0
    ready = (await gateway.ask("/readyz", key=None)).json()
    assert ready["control"] == {"stale_s": 0.0}
