"""Idempotency keys: of equal requests under one key the first is answered, the others get its answer.

Who finds no record puts one that says that an answer is in the making, and is the *opener*. Its record
expires unless it is renewed, so that a dead process holds nobody up. When the opener has its answer, the
record holds it; when it fails or leaves, the record goes, and one of those who wait is the next opener.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from random import uniform
from typing import Any

from gateway.caching import records
from gateway.caching.records import Answer
from gateway.errors import IdempotencyConflict, Unavailable
from gateway.storage.interface import Store, StoreLost

RUNNING_S = 15.0
RENEW_S = 5.0
KEPT_S = 86_400.0
MAX_BYTES = 1 << 20
"""A larger answer is not kept: a later request under its key makes a call of its own."""
POLL_S = (0.1, 0.2)
"""How often the store is asked for an answer in the making elsewhere: messages may be lost."""
POLL_HERE_S = 1.0
AGAIN_S = 0.5
TOPIC = "idem"

Spawn = Callable[[Coroutine[Any, Any, None], str], object]


class Idempotency:
    """One per process. ``run`` must run while it is used."""

    def __init__(self, store: Store, spawn: Spawn) -> None:
        self._store = store
        self._spawn = spawn
        self._running: dict[str, bytes] = {}
        self._waiting: dict[str, set[asyncio.Event]] = {}
        self._ending = 0
        self._ended = asyncio.Event()
        self._ended.set()
        store.listen(self._heard)

    @property
    def reachable(self) -> bool:
        return self._store.lost is None

    def claim(self, tenant: str, key: bytes, fingerprint: bytes, number: int) -> Claim:
        """A handle; nothing is asked yet. ``number``: unique to this process."""
        name = f"{TOPIC}:{tenant}:{hashlib.sha256(key).hexdigest()}"
        return Claim(
            self, name, fingerprint, records.running(fingerprint, f"{self._store.writer}:{number}")
        )

    async def run(self) -> None:
        """Renews the records of answers in the making, for ever."""
        while True:
            await asyncio.sleep(RENEW_S)
            await self.renew()

    async def renew(self) -> None:
        try:
            for name, mine in list(self._running.items()):
                if await self._store.replace(name, mine, mine, RUNNING_S):
                    continue
                if name in self._running:  # the store has lost it; if it is another's now, so be it
                    await self._store.put_new(name, mine, RUNNING_S)
        except StoreLost:
            return

    async def drained(self) -> None:
        """Returns when what has ended stands in the store, or the store is lost."""
        while self._ending and self._store.lost is None:
            self._ended.clear()
            try:
                async with asyncio.timeout(0.05):
                    await self._ended.wait()
            except TimeoutError:
                continue

    async def put(self, name: str, mine: bytes) -> bytes | None:
        """None: ``mine`` stands there now; else what does. Raises ``Unavailable``."""
        try:
            if self._store.lost is not None:
                raise StoreLost(self._store.lost)
            present = await self._store.put_new(name, mine, RUNNING_S)
        except StoreLost as lost:
            raise Unavailable(
                "Idempotency keys cannot be looked up at the moment; try again, or send none.",
                code="storage_unavailable",
                retry_after_s=1,
                detail=str(lost),
            ) from None
        if present is None or present == mine:
            self._running[name] = mine
            return None
        return present

    def end(self, name: str, mine: bytes, value: bytes | None) -> None:
        """``value`` takes the place of ``mine``, in the background; None: nothing does."""
        self._running.pop(name, None)
        self._ending += 1
        self._spawn(self._finish(name, mine, value), "idempotency")

    @contextmanager
    def watched(self, name: str) -> Iterator[asyncio.Event]:
        """An event that is set when the record has changed, as far as that is heard of."""
        changed = asyncio.Event()
        waiting = self._waiting.setdefault(name, set())
        waiting.add(changed)
        try:
            yield changed
        finally:
            waiting.discard(changed)
            if not waiting and self._waiting.get(name) is waiting:
                del self._waiting[name]

    def patience_s(self, name: str) -> float:
        """How long to wait for a message before the store is asked again."""
        return POLL_HERE_S if name in self._running else uniform(*POLL_S)

    async def _finish(self, name: str, mine: bytes, value: bytes | None) -> None:
        try:
            await self._put_instead(name, mine, value)
            self._wake(name)
            await self._store.publish(TOPIC, name.encode())
        except StoreLost:
            pass  # whoever waits asks again
        finally:
            self._ending -= 1
            self._ended.set()

    async def _put_instead(self, name: str, mine: bytes, value: bytes | None) -> None:
        """Raises ``StoreLost`` when the record must have expired meanwhile."""
        until_s = time.monotonic() + RUNNING_S
        while True:
            try:
                replaced = await self._store.replace(name, mine, value, KEPT_S)
                if not replaced and value is not None:
                    await self._store.put_new(name, value, KEPT_S)
                return
            except StoreLost:
                if time.monotonic() > until_s:
                    raise
                await asyncio.sleep(AGAIN_S)

    def _heard(self, topic: str, message: bytes) -> None:
        if topic == TOPIC:
            self._wake(message.decode("utf-8", "replace"))

    def _wake(self, name: str) -> None:
        for changed in self._waiting.get(name, ()):
            changed.set()


class Claim:
    """One request's on its key. ``end`` must follow ``take``, however that ended."""

    __slots__ = ("_fingerprint", "_held", "_idempotency", "_mine", "_name")

    def __init__(self, idempotency: Idempotency, name: str, fingerprint: bytes, mine: bytes) -> None:
        self._idempotency = idempotency
        self._name = name
        self._fingerprint = fingerprint
        self._mine = mine
        self._held = False

    async def take(self) -> Answer | None:
        """The answer, as soon as there is one; None: this request is the opener.

        Raises ``IdempotencyConflict`` when the key is another request's, and ``Unavailable``.
        """
        idempotency, name = self._idempotency, self._name
        with idempotency.watched(name) as changed:
            while True:
                changed.clear()
                self._held = idempotency.reachable  # if this is interrupted, nobody knows
                present = await idempotency.put(name, self._mine)
                self._held = present is None
                if present is None:
                    return None
                answer = self._answer(present)
                if answer is not None:
                    return answer
                try:
                    async with asyncio.timeout(idempotency.patience_s(name)):
                        await changed.wait()
                except TimeoutError:
                    continue

    def end(self, answer: Answer | None) -> None:
        """``answer`` None: there is none that may be given again."""
        if self._held:
            self._held = False
            value = None if answer is None else records.done(self._fingerprint, answer)
            self._idempotency.end(self._name, self._mine, value)

    def _answer(self, present: bytes) -> Answer | None:
        record = records.read(present)
        if record.fingerprint != self._fingerprint:
            raise IdempotencyConflict(
                "This idempotency key was used for another request; send a new key with a new request.",
                param="idempotency-key",
            )
        return record.answer
