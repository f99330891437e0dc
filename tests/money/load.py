"""Requests at once, buffered and streamed mixed, some of whose clients leave in the middle."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from tests.e2e.rig import CHAT
from tests.fakes.client import RawClient, request
from tests.money.fleet import Fleet, Replica, body

AT_ONCE = 100
DEADLINE_S = 40.0
_NUMBERS = itertools.count(1)


@dataclass
class Asked:
    """One request as its client saw it. ``status`` 0: no answer, or left before it."""

    id: str
    replica: Replica
    status: int = 0
    code: str = ""
    final: bool = False
    whole: bool = False


class Load:
    """All requests of one scenario, for one tenant. ``leaves_every``: one client in so many leaves, 0:
    none. ``since_s``: when the period of its budget began (epoch seconds)."""

    def __init__(self, fleet: Fleet, tenant: str, *, model: str = "chat", leaves_every: int = 7) -> None:
        self.asked: list[Asked] = []
        self._fleet = fleet
        self.tenant = tenant
        self.since_s = 0
        self._model = model
        self._leaves_every = leaves_every

    async def burst(self, count: int = AT_ONCE, replicas: Sequence[Replica] | None = None) -> list[Asked]:
        """So many at once, shared out among ``replicas`` (default: all that are up)."""
        chosen = list(replicas or self._fleet.up)
        async with asyncio.TaskGroup() as tasks:
            running = [
                tasks.create_task(self._one(next(_NUMBERS), chosen[index % len(chosen)]))
                for index in range(count)
            ]
        return [one.result() for one in running]

    def leaves(self, number: int) -> bool:
        return bool(self._leaves_every) and number % self._leaves_every == 0

    def in_flight(self) -> Counter[Replica]:
        """Requests that the provider is answering, by replica."""
        running = self._fleet.provider.running
        return Counter(one.replica for one in self.asked for _ in range(running[one.id]))

    async def _one(self, number: int, replica: Replica) -> Asked:
        asked = Asked(f"{self.tenant}-{number:05}", replica)
        self.asked.append(asked)
        leaves = self.leaves(number)
        stream = number % 2 == 1
        if leaves:
            self._fleet.provider.leaving.add(asked.id)
        raw = request(
            CHAT,
            body(asked.id, self._model, stream=stream),
            key=self._fleet.keys[self.tenant],
            headers={"x-request-id": asked.id},
        )
        try:
            async with replica.client(DEADLINE_S) as client:
                await client.send(raw)
                if leaves and not stream:
                    await asyncio.sleep(self._fleet.provider.hold_s / 2)
                    return asked
                await _read(client, asked, leaves)
        except (OSError, EOFError, TimeoutError):
            pass
        return asked


async def _read(client: RawClient, asked: Asked, leaves: bool) -> None:
    head = await client.read_head()
    asked.status = head.status
    asked.final = head.header("x-should-retry") == "false"
    if (head.header("content-type") or "").startswith("text/event-stream"):
        last = await client.read_event()
        while not leaves and last is not None and last != b"[DONE]":
            last = await client.read_event()
        asked.whole = last == b"[DONE]"
        return
    while block := await client.read_block():
        head.body += block
    if head.status != 200:
        asked.code = head.code
    asked.whole = head.status == 200
