"""Tokens of an identity provider, instead of virtual keys."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.e2e.operators import ADMIN, kill, unkill
from tests.e2e.refusals import assert_refused
from tests.e2e.rig import CHAT, Gateway, chat
from tests.e2e.served import SOON_S
from tests.fakes.answers import chat_body, json_answer
from tests.fakes.upstream import Upstream, send
from tests.unit.jwt_rig import AUDIENCE, ISSUER, IdentityProvider, Signer

pytestmark = pytest.mark.asyncio(loop_scope="module")

RSA, EC = Signer("one"), Signer("two", "ES256")
OK = json_answer(chat_body("fine"))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def provider() -> AsyncIterator[IdentityProvider]:
    async with IdentityProvider(RSA, EC) as running:
        yield running


@pytest.fixture(scope="module")
def changes(provider: IdentityProvider) -> dict[str, Any]:
    issuer = {"issuer": ISSUER, "audience": AUDIENCE, "jwks_url": provider.keys_url, "feature_claim": "app"}
    return {**ADMIN, "auth": {"jwt": [issuer]}}


@pytest_asyncio.fixture(scope="module", loop_scope="module", autouse=True)
async def fetched(gateway: Gateway) -> None:
    async with asyncio.timeout(SOON_S):
        while not gateway.log("jwks_loaded"):
            await asyncio.sleep(0.02)


def token(gateway: Gateway, signer: Signer = RSA, **claims: Any) -> str:
    made = signer.token(**claims)
    gateway.secrets.append(made)
    return made


@pytest.mark.parametrize("signer", [RSA, EC], ids=["RS256", "ES256"])
async def test_a_token_is_a_key(gateway: Gateway, upstream: Upstream, signer: Signer) -> None:
    held = token(gateway, signer, sub="ann@example", app="search")
    for _ in range(2):
        upstream.next(send(OK))
        answer = await gateway.ask(CHAT, chat(), key=held, headers={"x-gateway-user": "somebody"})
        row = await gateway.row(answer.header("x-request-id") or "")
        assert (row["tenant"], row["key"]) == ("acme", "jwt")
        assert (row["user"], row["feature"]) == ("ann@example", "search")
        assert "authorization" not in dict(upstream.last.headers) or held not in repr(upstream.last.headers)
    assert (await gateway.ask("/v1/models", key=held)).status == 200


async def test_a_bad_token_says_nothing_but_expired(gateway: Gateway) -> None:
    expired = token(gateway, exp=1_000_000_000)
    answer = await gateway.ask(CHAT, chat(), key=expired)
    assert_refused(answer, 401, "invalid_api_key")
    assert answer.json()["error"]["message"] == "The token has expired."
    for bad in (
        token(gateway, aud="other"),
        token(gateway, tenant="nobody"),
        token(gateway, iss="https://evil.example"),
        token(gateway, Signer("one")),
        token(gateway)[:-8],
    ):
        answer = await gateway.ask(CHAT, chat(), key=bad)
        assert_refused(answer, 401, "invalid_api_key")
        assert answer.json()["error"]["message"] == "The API key is missing or not valid."


async def test_virtual_keys_work_beside(gateway: Gateway) -> None:
    assert (await gateway.ask("/v1/models")).status == 200
    long = {"authorization": f"Bearer {'x' * 600}"}
    assert_refused(await gateway.ask("/v1/models", key=None, headers=long), 401, "invalid_api_key")


async def test_a_token_of_eight_kilobytes(gateway: Gateway) -> None:
    large = token(gateway, groups=["g" * 50] * 90)
    assert 6000 < len(large) <= 8192
    assert (await gateway.ask("/v1/models", key=large)).status == 200


async def test_tokens_are_stopped_like_keys(gateway: Gateway) -> None:
    held = token(gateway)
    await kill(gateway, "key/acme/jwt")
    assert_refused(await gateway.ask(CHAT, chat(), key=held), 403, "kill_switch")
    assert (await gateway.ask("/v1/models", key=held)).status == 200
    await unkill(gateway, "key/acme/jwt")
