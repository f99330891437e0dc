from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.storage.redis_server import RedisServer, redis_server
from tests.storage.worlds import MemoryWorld, RedisWorld, World


@pytest.fixture(scope="session")
def shared_server() -> Iterator[RedisServer]:
    """One server for all tests that do it no harm."""
    with redis_server() as server:
        yield server


@pytest.fixture
def own_server() -> Iterator[RedisServer]:
    """A server that may be frozen and killed."""
    with redis_server() as server:
        yield server


@pytest.fixture(params=["memory", "redis"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    made: World
    if request.param == "memory":
        made = MemoryWorld()
    else:
        server: RedisServer = request.getfixturevalue("shared_server")
        server.command("FLUSHALL")
        made = RedisWorld(server)
    yield made
    await made.aclose()
