"""Tokens of identity providers: real signatures, and public keys from a file or a server."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.control import jwks as jwks_module
from gateway.control.jwt import Issuer
from gateway.control.keys import MAX_TOKEN
from gateway.errors import InvalidApiKey, Unavailable
from gateway.storage.memory import MemoryState
from tests.unit.control_rig import Process, settings, snapshot_of, until
from tests.unit.jwt_rig import AUDIENCE, ISSUER, IdentityProvider, Signer, jwks

RSA, EC, ED = Signer("rsa"), Signer("ec", "ES256"), Signer("ed", "EdDSA")
ROGUE = Signer("rsa")


@pytest.fixture
async def process(tmp_path: Path) -> AsyncIterator[Process]:
    made = Process("one", MemoryState(), tmp_path, snapshot_of())
    made.store.shared = False
    yield made
    await made.close()


def trust(process: Process, source: Path | str, **fields: Any) -> None:
    named = {"algorithms": ("RS256", "ES256", "EdDSA"), **fields}
    process.tokens.configure([Issuer(ISSUER, AUDIENCE, source, **named)])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "jwks.json"
    path.write_bytes(jwks(RSA, EC, ED))
    return path


@pytest.mark.parametrize("signer", [RSA, EC, ED], ids=lambda one: one.algorithm)
@pytest.mark.parametrize("kid", ["", None])
async def test_a_good_token(process: Process, file: Path, signer: Signer, kid: str | None) -> None:
    trust(process, file, feature_claim="app")
    key = await process.find(signer.token(kid=kid, app="search"))
    assert (key.id, key.tenant.name, key.digest) == ("jwt", "acme", b"")
    assert key.tags == {"user": "ann", "feature": "search"}
    assert key.tenant is process.snapshot.tenants["acme"]


def _tampered(token: str, **claims: Any) -> str:
    head, body, sign = token.split(".")
    said = orjson.loads(base64.urlsafe_b64decode(body + "=="))
    forged = base64.urlsafe_b64encode(orjson.dumps({**said, **claims})).decode().rstrip("=")
    return f"{head}.{forged}.{sign}"


def _symmetric() -> str:
    """Signed with the public key as if it were a shared secret."""
    head = base64.urlsafe_b64encode(b'{"alg":"HS256","kid":"rsa","typ":"JWT"}').decode().rstrip("=")
    body = RSA.token().split(".")[1]
    mac = hmac.new(orjson.dumps(RSA.jwk), f"{head}.{body}".encode(), "sha256").digest()
    return f"{head}.{body}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}"


def _deep() -> str:
    return base64.urlsafe_b64encode(b"[" * 5000).decode().rstrip("=")


def _headed(header: dict[str, Any]) -> str:
    """Another header on what was signed; it begins as JSON does in base64."""
    head = base64.urlsafe_b64encode(orjson.dumps(header)).decode().rstrip("=")
    assert head.startswith("eyJ")
    return head + RSA.token()[RSA.token().index(".") :]


BAD: dict[str, Callable[[], str]] = {
    "other audience": lambda: RSA.token(aud="somebody else"),
    "no audience": lambda: RSA.token(aud=None),
    "other issuer": lambda: RSA.token(iss="https://evil.example"),
    "no issuer": lambda: RSA.token(iss=None),
    "no end": lambda: RSA.token(exp=None),
    "not yet": lambda: RSA.token(nbf=int(time.time()) + 3600),
    "no tenant": lambda: RSA.token(tenant=None),
    "tenant is no text": lambda: RSA.token(tenant=["acme"]),
    "unknown tenant": lambda: RSA.token(tenant="nobody"),
    "other key": lambda: ROGUE.token(),
    "unknown kid": lambda: RSA.token(kid="what"),
    "kid of another": lambda: RSA.token(kid="ec"),
    "algorithm not taken": lambda: RSA.token(algorithm="RS512"),
    "tampered": lambda: _tampered(RSA.token(), tenant="other"),
    "no algorithm": lambda: _headed({"alg": "none"}),
    "no algorithm, no signature": lambda: _headed({"alg": "none"}).rpartition(".")[0] + ".",
    "symmetric": _symmetric,
    "no JSON": lambda: "eyJub3QgSlNPTg.eyJub3QgSlNPTg.AAAA",
    "deep JSON": lambda: f"{RSA.token().split('.')[0]}.{_deep()}.AAAA",
    "a list as kid": lambda: _headed({"alg": "RS256", "kid": ["rsa"]}),
    "a list as algorithm": lambda: _headed({"alg": ["RS256"], "kid": "rsa"}),
    "a number as algorithm": lambda: _headed({"alg": 1, "kid": "rsa"}),
    "critical extension": lambda: _headed({"alg": "RS256", "kid": "rsa", "crit": ["x"], "x": 1}),
    "too long": lambda: RSA.token(more="x" * MAX_TOKEN),
}


@pytest.mark.parametrize("name", BAD)
async def test_a_bad_token(process: Process, file: Path, name: str) -> None:
    trust(process, file)
    token = BAD[name]()
    for _ in range(2):
        with pytest.raises(InvalidApiKey) as refused:
            await process.find(token)
        assert refused.value.message == "The API key is missing or not valid."


async def test_expiry(process: Process, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trust(process, file, leeway_s=30.0)
    with pytest.raises(InvalidApiKey, match="expired"):
        await process.find(RSA.token(exp=int(time.time()) - 31))
    assert (await process.find(RSA.token(exp=int(time.time()) - 20))).id == "jwt"
    token = RSA.token(exp=int(time.time()) + 100)
    assert (await process.find(token)).id == "jwt"
    clock = time.time
    monkeypatch.setattr(time, "time", lambda: clock() + 131)
    with pytest.raises(InvalidApiKey, match="expired"):
        await process.find(token)


async def test_a_token_is_verified_once(
    process: Process, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trust(process, file)
    token = RSA.token()
    first = await process.find(token)

    async def never(*_: Any) -> Any:
        raise AssertionError("verified again")

    monkeypatch.setattr(process.tokens, "verify", never)
    assert await process.find(token) == first
    assert len(process.tokens._verified) == 1


async def test_users_keep_apart_as_cost_tags(process: Process, file: Path) -> None:
    trust(process, file)
    subjects = ["ann", "a" * 200, "a" * 199 + "b", "aé", "aè", "x\r\ny", "auth0|1", "auth0_1"]
    users = [(await process.find(RSA.token(sub=sub))).tags["user"] for sub in subjects]
    assert len(set(users)) == len(subjects)
    assert users[0] == "ann" and users[-1] == "auth0_1"
    assert all(len(user) <= 128 and user.isascii() and user.isprintable() for user in users)
    assert "user" not in (await process.find(RSA.token(sub=None))).tags


async def test_models_of_an_issuer(process: Process, file: Path) -> None:
    named = {"algorithms": ("RS256",)}
    process.tokens.configure(
        [
            Issuer(ISSUER, "narrow", file, models=frozenset({"n"}), **named),  # type: ignore[arg-type]
            Issuer(ISSUER, "wide", file, **named),  # type: ignore[arg-type]
        ]
    )
    wide = await process.find(RSA.token(aud="wide"))
    narrow = await process.find(RSA.token(aud=["else", "narrow"]))
    assert process.snapshot.names_for(wide) == ["alias", "m", "n"]
    assert process.snapshot.names_for(narrow) == ["n"]


async def test_without_issuers_a_token_is_no_key(process: Process) -> None:
    with pytest.raises(InvalidApiKey):
        await process.find(RSA.token())


async def test_keys_from_a_server(process: Process) -> None:
    async with IdentityProvider(RSA) as provider:
        provider.status = "503 Service Unavailable"
        trust(process, provider.keys_url)
        token = RSA.token()
        with pytest.raises(Unavailable) as refused:
            await process.find(token)
        assert refused.value.code == "storage_unavailable" and refused.value.retry_after_s
        process.tokens.start()
        await until(lambda: len(provider.seen) >= 1)
        provider.status = "200 OK"
        await until(lambda: ("jwks_loaded", {"source": provider.keys_url, "keys": 1}) in process.events, 5)
        assert (await process.find(token)).id == "jwt"
        trust(process, provider.keys_url, leeway_s=1.0)  # a reload keeps the keys
        assert (await process.find(token)).id == "jwt"


async def test_a_new_signing_key_is_fetched_and_an_old_one_forgotten(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = Signer("fresh")
    async with IdentityProvider(RSA) as provider:
        trust(process, provider.keys_url)
        process.tokens.start()
        old = RSA.token()
        await until(lambda: bool(process.events))
        assert (await process.find(old)).id == "jwt"
        provider.signers = [fresh]
        for _ in range(5):  # it was looked at only now
            with pytest.raises(InvalidApiKey):
                await process.find(fresh.token(jti=str(_)))
        assert len(provider.seen) == 1
        monkeypatch.setattr(jwks_module, "AGAIN_S", 0.0)
        assert (await process.find(fresh.token())).id == "jwt"
        assert len(provider.seen) == 2
        with pytest.raises(InvalidApiKey):
            await process.find(old)


async def test_a_failing_server_leaves_the_known_keys(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jwks_module, "AGAIN_S", 0.0)
    async with IdentityProvider(RSA) as provider:
        trust(process, provider.keys_url)
        process.tokens.start()
        await until(lambda: bool(process.events))
        provider.status = "500 Internal Server Error"
        with pytest.raises(InvalidApiKey):
            await process.find(EC.token())
        assert process.events[-1][0] == "jwks_failed" and process.events[-1][1]["kept"]
        assert (await process.find(RSA.token())).id == "jwt"
    with pytest.raises(InvalidApiKey):
        await process.find(EC.token(jti="2"))
    assert (await process.find(RSA.token())).id == "jwt"


async def test_a_slow_server_holds_up_nobody_else(
    process: Process, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jwks_module, "PATIENCE_S", 0.3)
    gate = asyncio.Event()

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await gate.wait()
        writer.close()

    server = await asyncio.start_server(hold, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    named: dict[str, Any] = {"algorithms": ("RS256", "ES256")}
    slow = Issuer("https://slow.example", AUDIENCE, f"http://127.0.0.1:{port}/", **named)
    process.tokens.configure([slow, Issuer(ISSUER, AUDIENCE, file, **named)])
    process.tokens.start()
    held = asyncio.gather(
        *(process.find(RSA.token(iss="https://slow.example", jti=str(n))) for n in range(5)),
        return_exceptions=True,
    )
    begun_s = time.monotonic()
    assert (await process.find(RSA.token())).id == "jwt"
    assert time.monotonic() - begun_s < 0.2
    assert all(isinstance(error, Unavailable) for error in await held)
    gate.set()
    server.close()


async def test_revoking_and_stopping_tokens(process: Process, file: Path) -> None:
    trust(process, file)
    key = await process.find(RSA.token())
    await process.control.turn_on("key", "acme/jwt", "no tokens", None, False)
    with pytest.raises(Exception, match="no tokens"):
        process.control.check(process.exchange(key))


@pytest.mark.parametrize(
    "raw", [b"", b"[]", b'{"keys": 1}', b'{"keys": []}', b'{"keys": [{"kty": "oct"}]}']
)
async def test_what_is_no_set_of_keys(process: Process, tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "bad.json"
    path.write_bytes(raw)
    trust(process, path)
    with pytest.raises(Unavailable):
        await process.find(RSA.token())
    assert process.events[-1][0] == "jwks_failed"


async def test_a_tenant_that_comes_with_a_reload(process: Process, file: Path) -> None:
    trust(process, file)
    token = RSA.token(tenant="late")
    with pytest.raises(InvalidApiKey):
        await process.find(token)
    tenants = {**settings().model_dump()["tenants"], "late": {"models": ["*"]}}
    process.snapshot = snapshot_of(settings(tenants=tenants))
    trust(process, file)
    assert (await process.find(token)).tenant.name == "late"
    assert hashlib.sha256(token.encode()).digest() in process.tokens._verified
