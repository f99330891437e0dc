"""A ledger that was cut or removed while its gateway was stopped: no restart hides it."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import orjson
import pytest
import pytest_asyncio

from tests.e2e.rig import samples
from tests.e2e.served import Served, command, served
from tests.fakes.upstream import Upstream
from tests.storage.redis_server import RedisServer, redis_server

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module")
async def upstream() -> AsyncIterator[Upstream]:
    async with Upstream() as running:
        yield running


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with redis_server() as running:
        yield running


@pytest.fixture(autouse=True)
def settled() -> None:
    """Each test here looks after a process of its own."""


async def verified(gateway: Served) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(command, "ledger", "verify", "--config", str(gateway.config))


def day_file(gateway: Served) -> Path:
    return next(gateway.data_dir.glob("ledger/*/????-??-??.jsonl"))


async def cut(gateway: Served) -> None:
    """Four requests are 8 rows, of which two are left when it has stopped."""
    for _ in range(4):
        answer = await gateway.chat()
        await gateway.row(answer.header("x-request-id") or "")
    assert await gateway.stop() == 0
    file = day_file(gateway)
    lines = file.read_bytes().splitlines(keepends=True)
    assert len(lines) == 8
    file.write_bytes(b"".join(lines[:2]))


async def assert_told(gateway: Served) -> None:
    done = await verified(gateway)
    assert done.returncode == 1 and "cut_off: the head was row 8" in done.stderr, done.stdout
    assert "ok:" not in done.stdout


@pytest.mark.parametrize("memory", [True, False], ids=["memory", "redis"])
async def test_a_restart_does_not_hide_a_cut(
    tmp_path: Path, upstream: Upstream, redis: RedisServer, memory: bool
) -> None:
    storage = {"url": "memory://" if memory else redis.url}
    async with served(tmp_path, upstream, storage=storage) as gateway:
        await cut(gateway)
        if not memory:  # so that the store alone knows
            for path in (day_file(gateway).parent / "checkpoint", gateway.data_dir / "heads.json"):
                path.unlink()
        await gateway.start()
        (line,) = await gateway.logged("ledger_cut_off")
        assert (line["level"], line["known_seq"], line["found_seq"]) == ("error", 8, 2)
        errors = samples(await gateway.metrics())["gateway_storage_errors_total"]
        assert ({"operation": "ledger"}, 1.0) in [(dict(labels), value) for labels, value in errors]
        assert await gateway.stop() == 0
        await assert_told(gateway)
        row = orjson.loads(day_file(gateway).read_bytes().splitlines()[2])
        assert (row["kind"], row["seq"], row["known_seq"], row["found_seq"]) == ("break", 3, 8, 2)
        await gateway.start()
        answer = await gateway.chat()
        await gateway.row(answer.header("x-request-id") or "")
        await assert_told(gateway)
        assert await gateway.stop() == 0
        await assert_told(gateway)
        assert gateway.log("ledger_cut_off") == []  # of the second start
        gateway.assert_proved()


@pytest.mark.parametrize("memory", [True, False], ids=["memory", "redis"])
async def test_a_ledger_that_was_removed_is_missing(
    tmp_path: Path, upstream: Upstream, redis: RedisServer, memory: bool
) -> None:
    storage = {"url": "memory://" if memory else redis.url}
    async with served(tmp_path, upstream, storage=storage) as gateway:
        await gateway.chat()
        assert await gateway.stop() == 0
        shutil.rmtree(day_file(gateway).parent)
        if not memory:
            (gateway.data_dir / "heads.json").unlink()
        done = await verified(gateway)
        assert done.returncode == 1 and "missing: the folder is not there any more" in done.stderr
        assert "nothing has been written" not in done.stdout
        if memory:
            await gateway.start()
            assert await gateway.stop() == 0
            assert (await verified(gateway)).returncode == 1
