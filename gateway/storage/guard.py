"""A store that does not answer is left alone: nobody waits for it, one probe asks whether it is back."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from gateway.storage.interface import StoreLost

FAILURES = 3
PROBE_S = (0.5, 1.0)
PROMPT_S = 0.05
"""A slower probe must be followed by another good one: so the border is not crossed to and fro."""

Spawn = Callable[[Coroutine[Any, Any, None], str], object]


class Guard:
    """``lost``: after ``FAILURES`` failures in a row, until ``probe`` returns.

    All that were under way when something failed count as one failure: a short pause of the server,
    with a thousand waiting, is one failure. ``probe`` raises ``StoreLost`` as long as the store is lost.
    """

    __slots__ = ("_changed", "_closed", "_failed_s", "_failures", "_probe", "_spawn", "lost")

    def __init__(
        self, probe: Callable[[], Awaitable[None]], spawn: Spawn, changed: Callable[[], None]
    ) -> None:
        self._probe = probe
        self._spawn = spawn
        self._changed = changed
        self._failures = 0
        self._failed_s = 0.0
        self._closed = False
        self.lost: str | None = None

    def check(self) -> None:
        """Raises ``StoreLost`` at once while the store is lost."""
        if self.lost is not None:
            raise StoreLost(self.lost)

    def succeeded(self) -> None:
        if self._failures:
            self._failures = 0

    def failed(self, reason: str, asked_s: float) -> None:
        """``asked_s``: when it was asked what failed now (``time.monotonic``)."""
        if self.lost is not None or asked_s < self._failed_s:
            return
        self._failed_s = time.monotonic()
        self._failures += 1
        if self._failures >= FAILURES:
            self.give_up(reason)

    def close(self, reason: str) -> None:
        """Nobody may ask any more; nothing is probed."""
        self._closed = True
        self.lost = reason

    def give_up(self, reason: str) -> None:
        if self.lost is None and not self._closed:
            self.lost = reason
            self._spawn(self._recover(), "storage_probe")
            self._changed()

    async def _recover(self) -> None:
        prompt = 0
        while prompt < 2:
            await asyncio.sleep(random.uniform(*PROBE_S))
            if self._closed:
                return
            asked_s = time.monotonic()
            try:
                await self._probe()
            except StoreLost as lost:
                self.lost, prompt = str(lost), 0
            else:
                prompt += 2 if time.monotonic() - asked_s < PROMPT_S else 1
        self.lost = None
        self._failures = 0
        self._changed()
