"""URLs, and that who does not use Redis does not pay for it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from gateway.storage.interface import StoreRefused
from gateway.storage.memory import Memory
from gateway.storage.opening import open_store
from gateway.storage.redis import RedisStore
from gateway.storage.redis_url import RedisTarget, parse


def test_memory_does_not_import_redis() -> None:
    script = (
        "import sys\n"
        "from gateway.storage.opening import open_store\n"
        "open_store('memory://', 'w')\n"
        "print([name for name in ('redis', 'hiredis') if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, text=True)
    assert run.stdout.strip() == "[]"


async def test_each_scheme_opens_its_store() -> None:
    assert isinstance(open_store("memory://", "w"), Memory)
    for url in ("redis://h", "rediss://h", "redis+cluster://h,i:1", "redis+sentinel://h/main"):
        store = open_store(url, "w")
        assert isinstance(store, RedisStore)
        assert (store.writer, store.shared) == ("w", True)
        await store.aclose()


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("redis://h", RedisTarget("single", (("h", 6379),))),
        ("redis://[::1]:7/3", RedisTarget("single", (("::1", 7),), db=3)),
        ("redis://:p%40%2F@h:1", RedisTarget("single", (("h", 1),), password="p@/")),
        ("rediss://u:p@h:1/2", RedisTarget("single", (("h", 1),), "u", "p", 2, tls=True)),
        ("redis+cluster://u:p@h:1,i", RedisTarget("cluster", (("h", 1), ("i", 6379)), "u", "p")),
        (
            "redis+sentinel://:p@h,i:9/main/4",
            RedisTarget("sentinel", (("h", 26379), ("i", 9)), password="p", db=4, service="main"),
        ),
    ],
)
def test_what_an_url_says(url: str, target: RedisTarget) -> None:
    assert parse(url) == target


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("mysql://:secret@h", "memory://"),
        ("h:6379", "memory://"),
        ("redis://:secret@", "HOST:PORT"),
        ("redis://:secret@h:x", "HOST:PORT"),
        ("redis://:secret@h:99999", "HOST:PORT"),
        ("redis://:secret@h/x", "database number"),
        ("redis://:secret@h/1/2", "database number"),
        ("redis+cluster://:secret@h/1", "database 0"),
        ("redis+sentinel://:secret@h", "/SERVICE"),
        ("redis://:secret@[h", "HOST:PORT"),
        ("redis://:secret\uff0f@h", "HOST:PORT"),
        ("redis://:secret@h?x=1", "nothing after"),
        ("redis+sentinel://:secret@h/main?db=1", "nothing after"),
        ("redis://:secret@h/0#x", "nothing after"),
    ],
)
def test_an_url_that_will_not_do(url: str, told: str) -> None:
    with pytest.raises(StoreRefused, match=told) as refused:
        open_store(url, "w")
    assert "secret" not in str(refused.value)
