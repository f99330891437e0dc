"""Three replicas with one configuration, one Redis, and one provider; each can be frozen and killed."""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from gateway.accounting.tokens import estimate_prompt
from gateway.routing.demand import MARGIN
from tests.e2e.operators import TOKEN, admin
from tests.e2e.rig import PRICE, Gateway, chat, samples
from tests.money.provider import FAILING, INPUT_TOKENS, OUTPUT_TOKENS, Provider
from tests.storage.redis_server import RedisServer

REPLICAS = 3
MOST_TOKENS = 100
DEAR = 4
"""How many times as much the dear model costs."""
NANO = 1_000_000_000


def body(request_id: str, model: str = "chat", *, stream: bool = False) -> dict[str, Any]:
    text = f"id=<{request_id}>".ljust(40, ".")
    fields: dict[str, Any] = {"stream": True} if stream else {}
    return chat(model=model, max_tokens=MOST_TOKENS, messages=[{"role": "user", "content": text}], **fields)


def worst_nanousd(scenario: str) -> int:
    """What is reserved for one of its requests."""
    estimated = max(estimate_prompt(body(f"{scenario}-{number:05}")) for number in (0, 10_000, 99_999))
    return _cost(estimated + -(-estimated // MARGIN), MOST_TOKENS)


def true_nanousd() -> int:
    """What an answer that is read to its end costs."""
    return _cost(INPUT_TOKENS, OUTPUT_TOKENS)


def _cost(input_tokens: int, output_tokens: int) -> int:
    return round(input_tokens * PRICE["input_per_mtok_usd"] * 1000) + round(
        output_tokens * PRICE["output_per_mtok_usd"] * 1000
    )


class Replica(Gateway):
    """One of them. ``up``: answers, as far as the test knows."""

    up = False

    async def start(self) -> None:
        await super().start()
        self.up = True

    def freeze(self) -> None:
        self.up = False
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)
        self.up = True

    def kill(self) -> None:
        self.up = False
        os.kill(self.pid, signal.SIGKILL)
        assert self._process is not None
        self._process.wait()

    async def cost_nanousd(self, tenant: str) -> int:
        """By the counters of this process's life."""
        cost = samples(await self.metrics()).get("gateway_cost_usd_total", [])
        return round(sum(value for labels, value in cost if labels["tenant"] == tenant) * NANO)


class Fleet:
    def __init__(self, replicas: Sequence[Replica], redis: RedisServer, provider: Provider) -> None:
        self.replicas = replicas
        self.redis = redis
        self.provider = provider
        self.keys: dict[str, str] = {}

    @property
    def up(self) -> list[Replica]:
        return [one for one in self.replicas if one.up]

    async def budget(self, tenant: str) -> dict[str, int] | None:
        """Of a tenant, in nano-dollars, by whoever is up; None when the store cannot be asked."""
        for replica in self.up:
            listed = (await admin(replica, "GET", "tenants")).json()["data"]
            budgets = next(one["budgets"] for one in listed if one["tenant"] == tenant)
            if budgets:
                names = ("limit", "spent", "reserved", "remaining")
                return {name: nanousd(budgets[0][f"{name}_usd"]) for name in names}
        return None

    async def rows_told(self, request_id: str, replica: Replica) -> list[dict[str, Any]]:
        """What a replica says of a request, of the whole fleet."""
        answer = await admin(replica, "GET", f"ledger?request_id={request_id}")
        return list(answer.json()["data"])

    async def spend_nanousd(self, tenant: str, replica: Replica) -> int:
        answer = await admin(replica, "GET", f"spend?tenant={tenant}")
        return nanousd(answer.json()["total_usd"])


def nanousd(usd: str) -> int:
    whole, _, parts = usd.partition(".")
    sign = -1 if usd.startswith("-") else 1
    return int(whole) * NANO + sign * int(parts.ljust(9, "0") or 0)


@asynccontextmanager
async def fleet(
    folder: Path, redis: RedisServer, tenants: Mapping[str, Mapping[str, Any]], url: str | None = None
) -> AsyncIterator[Fleet]:
    """``tenants``: their settings, without keys. ``url``: of the store, where it is not Redis's own."""
    async with Provider() as provider:
        running = _made(folder, redis, provider, tenants, url or redis.url)
        try:
            await asyncio.gather(*(one.start() for one in running.replicas))
            yield running
        finally:
            for one in running.up:
                await one.stop()


def _made(
    folder: Path,
    redis: RedisServer,
    provider: Provider,
    tenants: Mapping[str, Mapping[str, Any]],
    url: str,
) -> Fleet:
    changes: dict[str, Any] = {
        "server": {"admin_token": TOKEN},
        "storage": {"url": url},
        "models": {"chat": _chat(), "falls": _falling(), "dear": _dear()},
    }
    settings, keys = _with_keys(tenants)
    replicas = []
    for number in range(REPLICAS):
        own = folder / f"replica-{number}"
        own.mkdir()
        replicas.append(Replica(own, provider, {**changes, "tenants": settings}))
    made = Fleet(replicas, redis, provider)
    made.keys = keys
    return made


def _with_keys(tenants: Mapping[str, Mapping[str, Any]]) -> tuple[dict[str, Any], dict[str, str]]:
    settings: dict[str, Any] = {}
    keys: dict[str, str] = {}
    for name, one in tenants.items():
        keys[name] = f"sk-gw-{secrets.token_urlsafe(24)}"
        digest = hashlib.sha256(keys[name].encode()).hexdigest()
        settings[name] = {"models": ["*"], "keys": [{"id": "k", "hash": f"sha256:{digest}"}], **one}
    return settings, keys


def _chat() -> dict[str, Any]:
    return {
        "deployments": [{"provider": "fake", "model": "upstream-model", "price": PRICE}],
        "timeouts": {"connect_s": 50, "first_event_s": 50, "idle_s": 50, "total_s": 60},
        "retry": {"attempts": 1},
    }


def _falling() -> dict[str, Any]:
    """A deployment that fails; then comes the dear group."""
    return {
        **_chat(),
        "deployments": [{"provider": "fake", "model": FAILING, "price": PRICE}],
        "fallbacks": ["dear"],
        "retry": {"attempts": 3, "backoff_s": 0.01, "budget": 1.0},
        "breaker": {"failures": 10_000, "min_requests": 10_000, "error_rate": 1.0},
    }


def _dear() -> dict[str, Any]:
    price = {name: DEAR * usd for name, usd in PRICE.items()}
    return {**_chat(), "deployments": [{"provider": "fake", "model": "dear-model", "price": price}]}
