"""What redis-py does for the store: finding the server that counts, looking at it once, and pub/sub."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError, ResponseError

from gateway.storage.interface import StoreLost, StoreRefused
from gateway.storage.redis_url import Address, RedisTarget

TIMEOUT_S = 0.3
OLDEST = (6, 2)
SlotRange = tuple[int, int, Address]
"""First and last slot, and the master that has them."""


def options() -> dict[str, Any]:
    """redis-py's own defaults hang for a minute on a silent server and repeat what may have been done."""
    return {
        "socket_timeout": TIMEOUT_S,
        "socket_connect_timeout": TIMEOUT_S,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
    }


def client(target: RedisTarget, address: Address) -> Redis:
    return Redis(
        host=address[0],
        port=address[1],
        db=target.db,
        username=target.user or None,
        password=target.password or None,
        ssl=target.tls,
        **options(),
    )


@asynccontextmanager
async def asking(target: RedisTarget, address: Address) -> AsyncIterator[Redis]:
    """A client for a question or two; whatever fails becomes ``StoreLost``."""
    redis = client(target, address)
    try:
        yield redis
    except (RedisError, OSError) as error:
        raise StoreLost(f"Redis at {address[0]}:{address[1]} cannot be asked: {error}") from None
    finally:
        await redis.aclose()


async def find_master(target: RedisTarget) -> Address:
    """What the first sentinel that answers says."""
    sentinel = Sentinel(list(target.addresses), sentinel_kwargs=options())  # type: ignore[no-untyped-call]
    try:
        host, port = await sentinel.discover_master(target.service)
        return str(host), int(port)
    except (RedisError, OSError) as error:
        raise StoreLost(f"The sentinels know no master of {target.service}: {error}") from None
    finally:
        for one in sentinel.sentinels:
            await one.aclose()


async def find_slots(target: RedisTarget, addresses: Sequence[Address]) -> list[SlotRange]:
    """What the first node that answers says; one that knows of no slots does not count."""
    lost = StoreLost("The cluster has no node to ask.")
    for address in addresses:
        try:
            async with asking(target, address) as redis:
                found = await _cluster_slots(redis)
        except StoreLost as error:
            lost = error
            continue
        if found:
            return [(row[0], row[1], _master(row[2], address)) for row in found]
        lost = StoreLost(f"Redis at {address[0]}:{address[1]} belongs to no cluster that has slots.")
    raise lost


async def _cluster_slots(redis: Redis) -> list[list[Any]]:
    """Rows of first slot, last slot, master, replicas; a server is host, port, …"""
    slots = await redis.execute_command("CLUSTER SLOTS")  # type: ignore[no-untyped-call]
    return cast(list[list[Any]], slots)


def _master(server: list[Any], asked: Address) -> Address:
    """A node that does not know its own name is where it was asked."""
    host = (server[0] or b"").decode()
    return (host if host and host != "?" else asked[0]), int(server[1])


async def inspect(target: RedisTarget, address: Address) -> list[str]:
    """Warnings. Raises ``StoreRefused`` for a server that will not do, ``StoreLost`` if none answers."""
    where = f"Redis at {address[0]}:{address[1]}"
    redis = client(target, address)
    try:
        info: dict[str, Any] = await redis.info("server")
        version = str(info["redis_version"])
        if tuple(map(int, re.findall(r"\d+", version)[:2])) < OLDEST:
            raise StoreRefused(f"{where} is version {version}; the gateway needs 6.2 or newer.")
        return await _warnings(redis, where)
    except (AuthenticationError, NoPermissionError) as error:
        raise StoreRefused(f"{where} refuses the user or password of storage.url: {error}") from None
    except ResponseError as error:
        if "NOAUTH" in str(error) or "AUTH" in str(error):
            raise StoreRefused(f"{where} refuses the user or password of storage.url: {error}") from None
        raise StoreLost(f"{where} answered: {error}") from None
    except (RedisError, OSError) as error:
        raise StoreLost(f"{where} cannot be asked: {error}") from None
    finally:
        await redis.aclose()


async def _warnings(redis: Redis, where: str) -> list[str]:
    try:
        policy = await redis.config_get("maxmemory-policy")
    except ResponseError:
        return []  # hosted servers hide their configuration
    name = policy.get("maxmemory-policy") or "noeviction"
    if name == "noeviction":
        return []
    return [f"{where} may evict counters (maxmemory-policy {name}); set it to noeviction."]
