"""Breakers of the other processes: what one of them has found out, all of them know.

News go over the bus, which reaches everybody within milliseconds, and stand in the store for whoever comes
later. Where neither can be had each process has its own breakers, which is no worse than being alone. Only
openings and closings are told: each process sends a probe of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

import orjson

from gateway.routing.breaker import LONGEST_OPEN_S, State
from gateway.routing.health import Health
from gateway.storage.interface import Bus, Records, StoreLost

TOPIC = "breaker"
KEY = "breakers"


class SharedNews(Records, Bus, Protocol):
    """As much of a ``Store`` as is needed here."""

    writer: str


class Peers:
    """``healths``: of all deployments, by id. ``spawn``: runs what waits for the store."""

    def __init__(
        self,
        store: SharedNews,
        healths: Callable[[], dict[str, Health]],
        spawn: Callable[[Coroutine[Any, Any, None], str], object],
    ) -> None:
        self._store = store
        self._healths = healths
        self._spawn = spawn
        self._applying = False
        store.listen(self._heard)

    def changed(self, deployment: str, state: State) -> None:
        """A breaker of this process has moved."""
        if not self._applying and state != "half-open":
            self._spawn(self._tell(deployment, state), "breaker news")

    async def catch_up(self) -> None:
        """What was found out before this process began; does nothing where the store is lost."""
        try:
            known = await self._store.fields(KEY)
        except StoreLost:
            return
        for news in known.values():
            self._heard(TOPIC, news)

    async def _tell(self, deployment: str, state: State) -> None:
        health = self._healths().get(deployment)
        open_s = 0.0
        if health is not None and state == "open":
            open_s = max(health.breaker.open_until_s - time.monotonic(), 0.0)
        news = orjson.dumps(
            {
                "writer": self._store.writer,
                "deployment": deployment,
                "state": state,
                "until": time.time() + open_s,
            }
        )
        try:
            await self._store.publish(TOPIC, news)
            await self._store.put_fields(KEY, {deployment: news}, LONGEST_OPEN_S)
        except StoreLost:
            return

    def _heard(self, topic: str, message: bytes) -> None:
        if topic != TOPIC:
            return
        news = orjson.loads(message)
        health = self._healths().get(news["deployment"])
        left_s = news["until"] - time.time()
        over = news["state"] == "open" and left_s <= 0
        if health is None or over or news["writer"] == self._store.writer:
            return
        self._applying = True
        try:
            health.breaker.apply(news["state"], time.monotonic() + min(left_s, LONGEST_OPEN_S))
        finally:
            self._applying = False
