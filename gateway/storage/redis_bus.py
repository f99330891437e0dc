"""Messages to every process, over one channel; what is sent while a process is not connected, it misses."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from gateway.storage import keys, redis_connect
from gateway.storage.interface import MISSED, Heard, StoreLost
from gateway.storage.redis_url import Address, RedisTarget

AGAIN_S = (0.2, 0.6)
QUIET_S = 5.0
"""After a silence this long the server is asked whether it is there, and must answer in this time."""

_log = logging.getLogger(__name__)


def packed(topic: str, message: bytes) -> bytes:
    return topic.encode() + b"\n" + message


class Listening:
    """``where``: the server to listen to, asked again for each connection."""

    def __init__(self, target: RedisTarget, where: Callable[[], Awaitable[Address]]) -> None:
        self._target = target
        self._where = where
        self.heard: list[Heard] = []
        self.subscribed = asyncio.Event()
        self._was_subscribed = False

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            try:
                await self._listen()
            except (StoreLost, RedisError, OSError):
                pass
            self.subscribed.clear()
            await asyncio.sleep(random.uniform(*AGAIN_S))

    async def _listen(self) -> None:
        redis = redis_connect.client(self._target, await self._where())
        pubsub = redis.pubsub()
        try:
            await pubsub.subscribe(keys.BUS)
            await self._hear_all(pubsub)
        finally:
            await pubsub.aclose()  # type: ignore[no-untyped-call]
            await redis.aclose()

    async def _hear_all(self, pubsub: PubSub) -> None:
        quiet = False
        while True:
            message = await pubsub.get_message(timeout=QUIET_S)
            if message is None:
                if quiet:
                    return
                quiet = True
                await pubsub.ping()
                continue
            quiet = False
            if message["type"] == "subscribe":
                self.subscribed.set()
                if self._was_subscribed:
                    self._hear(packed(MISSED, b""))
                self._was_subscribed = True
            elif message["type"] == "message":
                self._hear(message["data"])

    def _hear(self, data: bytes) -> None:
        topic, _, message = data.partition(b"\n")
        for heard in self.heard:
            try:
                heard(topic.decode(), message)
            except Exception:  # one listener's fault is not the others'
                _log.exception("a listener failed")
