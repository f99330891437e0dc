"""What a request's admission and settlement cost in CPU: two rates, a slot, a fund; in memory and in Redis.

``python -m tests.bench.storage_cost``: needs redis-server, takes about ten seconds.
"""

from __future__ import annotations

import asyncio
import time

import uvloop

from gateway.storage.interface import Ask, Fund, FundClaim, RateClaim, Settled, SlotClaim, Spent, Store
from gateway.storage.opening import open_store
from tests.storage.redis_server import redis_server

TENANT = "acme"
FUND = Fund("month", 10**15, 0, 0)
RPM, TPM = RateClaim("rpm", 10**8, 1), RateClaim("tpm", 10**9, 500)
SLOT = SlotClaim("streams", 10_000)
PAIRS = 4_000
ROUNDS = 3


class Load:
    """Requests that are admitted and settled at once; each has its own number."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._number = 0

    async def pairs(self, count: int) -> None:
        for _ in range(count):
            self._number += 1
            number = self._number
            ask = Ask(TENANT, number, (RPM, TPM), (SLOT,), (FundClaim(FUND, 1000),))
            verdict = await self._store.admit(ask)
            if verdict.decision != "admitted":
                raise RuntimeError(f"refused: {verdict}")
            ended = (Settled(number, ((TPM, -100),)),)
            await self._store.settle(TENANT, ended, (Spent(FUND, number),))

    async def cost_us(self, at_once: int) -> tuple[float, float]:
        """CPU and wall of one admission and settlement, with ``at_once`` in flight; best of the rounds."""
        best = (float("inf"), float("inf"))
        each = PAIRS // at_once
        for _ in range(ROUNDS):
            cpu_s, wall_s = time.process_time(), time.monotonic()
            await asyncio.gather(*(self.pairs(each) for _ in range(at_once)))
            done = each * at_once / 1e6
            best = min(best, ((time.process_time() - cpu_s) / done, (time.monotonic() - wall_s) / done))
        return best


async def measure(url: str, name: str) -> None:
    store = open_store(url, "bench")
    await store.start()
    await store.register(TENANT, [], [], lost=False)
    load = Load(store)
    await load.pairs(200)
    for at_once in (1, 16, 128):
        cpu_us, wall_us = await load.cost_us(at_once)
        print(f"{name:8} {at_once:4} at once: {cpu_us:6.1f} µs CPU, {wall_us:6.1f} µs wall", flush=True)
    await store.aclose()


def main() -> None:
    print("one admission (two rates, a slot, a fund) and its settlement")
    uvloop.run(measure("memory://", "memory"))
    with redis_server() as server:
        uvloop.run(measure(server.url, "redis"))


if __name__ == "__main__":
    main()
