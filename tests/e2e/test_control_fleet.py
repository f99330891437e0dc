"""Two gateways on one Redis: what one is told the other obeys, whatever becomes of the Redis."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.e2e.operators import ADMIN, admin, kill, new_key, unkill
from tests.e2e.refusals import assert_refused
from tests.e2e.rig import CHAT, Gateway, chat, samples
from tests.e2e.served import SOON_S, Served
from tests.fakes.answers import chat_body, json_answer
from tests.fakes.upstream import Upstream, send
from tests.storage.redis_server import RedisServer, redis_server

pytestmark = pytest.mark.asyncio(loop_scope="module")

OK = json_answer(chat_body("fine"))
HEARD_S = 1.0


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with redis_server() as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def upstream() -> AsyncIterator[Upstream]:
    async with Upstream() as running:
        yield running


@pytest.fixture(autouse=True)
def settled() -> None:
    """Each test here looks after gateways of its own."""


class Fleet:
    """Gateways with one configuration, so that they know the same keys."""

    def __init__(self, folder: Path, upstream: Upstream, redis: RedisServer) -> None:
        self._folder, self._upstream, self._redis = folder, upstream, redis
        self._first: Served | None = None

    def gateway(self, name: str) -> Served:
        folder = self._folder / name
        folder.mkdir()
        storage = {"url": self._redis.url, "data_dir": str(folder / "data")}
        made = Served(folder, self._upstream, {**ADMIN, "storage": storage})
        if self._first is None:
            self._first = made
        else:
            made.key = self._first.key
            made.configure({"tenants": self._first.settings["tenants"]})
        return made


@pytest_asyncio.fixture(loop_scope="module")
async def pair(
    tmp_path: Path, upstream: Upstream, redis: RedisServer
) -> AsyncIterator[tuple[Served, Served]]:
    async with AsyncExitStack() as stack:
        fleet = Fleet(tmp_path, upstream, redis)
        gateways = fleet.gateway("one"), fleet.gateway("two")
        for gateway in gateways:
            stack.callback(gateway.kill)
            await gateway.start()
        yield gateways


async def status(gateway: Gateway, upstream: Upstream, **fields: Any) -> int:
    """Of a chat request; what was not asked of the upstream is forgotten."""
    upstream.forget()
    upstream.next(send(OK))
    answer = await gateway.chat(**fields)
    upstream.forget()
    return answer.status


async def listing(gateway: Gateway, key: str) -> int:
    return (await gateway.ask("/v1/models", key=key)).status


async def soon(what: Any, within_s: float = SOON_S) -> None:
    async with asyncio.timeout(within_s):
        while not await what():
            await asyncio.sleep(0.02)


async def test_the_very_next_request_anywhere_obeys(
    pair: tuple[Served, Served], upstream: Upstream
) -> None:
    one, two = pair
    assert await status(two, upstream) == 200
    for place in ("all", "tenant/acme", "key/acme/ci", "model/chat", "provider/fake", "deployment/chat-1"):
        await kill(one, place)
        assert await status(two, upstream) == 403, place
        await unkill(one, place)

        async def goes_on() -> bool:
            return await status(two, upstream) == 200

        await soon(goes_on, HEARD_S)


async def test_keys_are_the_fleets(pair: tuple[Served, Served], upstream: Upstream) -> None:
    one, two = pair
    for _ in range(5):
        made = await new_key(one)
        assert await listing(two, made["secret"]) == 200
        assert (await admin(two, "DELETE", f"tenants/acme/keys/{made['id']}")).status == 200
        answer = await one.ask(CHAT, chat(), key=made["secret"])  # at the latest its admission tells
        assert_refused(answer, 401, "invalid_api_key")
        began_s = time.monotonic()

        async def refused(secret: str = made["secret"]) -> bool:
            return await listing(one, secret) == 401

        await soon(refused, HEARD_S)
        assert time.monotonic() - began_s < HEARD_S


async def test_one_id_asked_for_everywhere_makes_one_key(pair: tuple[Served, Served]) -> None:
    place = "tenants/acme/keys"
    for number in range(10):
        order = {"id": f"same/{number}"}
        answers = await asyncio.gather(*(admin(pair[n % 2], "POST", place, order) for n in range(6)))
        made = [answer for answer in answers if answer.status == 201]
        assert len(made) == 1
        pair[0].secrets.append(made[0].json()["secret"])
        for answer in answers:
            if answer is not made[0]:
                assert_refused(answer, 400, "invalid_request")
                assert "already" in answer.json()["error"]["message"]
        assert (await admin(pair[1], "DELETE", f"{place}/same/{number}")).status == 200
        again = await new_key(pair[0], id=f"same/{number}")
        assert await listing(pair[1], again["secret"]) == 200


async def test_a_flushed_redis_forgets_nothing(
    pair: tuple[Served, Served], upstream: Upstream, redis: RedisServer
) -> None:
    one, two = pair
    await kill(one, "model/chat")
    kept, gone = await new_key(one), await new_key(one)
    await admin(two, "DELETE", f"tenants/acme/keys/{gone['id']}")

    async def revoked() -> bool:
        return await listing(one, gone["secret"]) == 401

    await soon(revoked, HEARD_S)
    redis.command("FLUSHALL")
    assert await status(one, upstream) == await status(two, upstream) == 403
    for gateway in pair:
        assert await listing(gateway, kept["secret"]) == 200
        assert await listing(gateway, gone["secret"]) == 401

    async def told() -> bool:
        return b"control" in redis.command("KEYS", "*control*")

    await soon(told)
    two.kill()
    (two.data_dir / "control.json").unlink()
    await two.start()  # it knows by the Redis alone
    assert await status(two, upstream) == 403
    assert await listing(two, kept["secret"]) == 200
    assert await listing(two, gone["secret"]) == 401


async def test_a_lost_redis_leaves_what_is_known(
    pair: tuple[Served, Served], upstream: Upstream, redis: RedisServer
) -> None:
    one, two = pair
    await kill(one, "tenant/acme")
    key = await new_key(one)
    assert await listing(two, key["secret"]) == 200
    redis.kill()

    async def stale() -> bool:
        return float((await two.ask("/readyz", key=None)).json()["control"]["stale_s"]) > 0

    await soon(stale)
    assert samples(await two.metrics())["gateway_control_stale_seconds"][0][1] > 0
    assert await status(two, upstream) == 403
    assert await listing(two, key["secret"]) == 200
    answer = await two.ask("/v1/models", key="gw-nobody-knows-this-key")
    assert_refused(answer, 503, "storage_unavailable")
    assert_refused(await two.ask("/v1/models", key="short"), 401, "invalid_api_key")
    assert_refused(await admin(one, "POST", "tenants/acme/keys", {}), 503, "storage_unavailable")
    switch = await kill(one, "model/chat")  # holds here at once
    assert switch["shared"] is False
    answer = await admin(one, "DELETE", "kill-switches/tenant/acme")
    assert answer.json()["shared"] is False
    assert (await admin(one, "GET", "kill-switches")).json()["data"][0]["scope"] == "model"
    one.kill()
    await one.start()  # while the Redis is away
    listed = (await admin(one, "GET", "kill-switches")).json()["data"]
    assert [(entry["scope"], entry["name"]) for entry in listed] == [("model", "chat")]
    redis.restart()  # without memory

    async def heard() -> bool:
        listed = (await admin(two, "GET", "kill-switches")).json()["data"]
        return [(entry["scope"], entry["name"]) for entry in listed] == [("model", "chat")]

    await soon(heard, 15.0)
    assert await listing(two, key["secret"]) == 200
    assert (await two.ask("/v1/models", key="gw-nobody-knows-this-key")).status == 401


async def test_a_frozen_redis_delays_nobody_for_long(
    pair: tuple[Served, Served], upstream: Upstream, redis: RedisServer
) -> None:
    one, two = pair
    await kill(one, "model/chat")
    assert await status(two, upstream) == 403
    redis.freeze()
    try:
        began_s = time.monotonic()
        answers = await asyncio.gather(*(two.chat() for _ in range(20)))
        assert {answer.status for answer in answers} == {403}
        assert time.monotonic() - began_s < 2.0
        unknown = await asyncio.gather(
            *(two.ask("/v1/models", key=f"gw-unknown-key-{n:04}") for n in range(20))
        )
        assert {answer.status for answer in unknown} == {503}
        assert time.monotonic() - began_s < 6.0
    finally:
        redis.thaw()
