"""Where slices of a provider's quota come from: the store, or this process's share while it is lost."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

from gateway.storage.gcra import ORIGIN_US
from gateway.storage.interface import Admissions, Ask, RateClaim, RateState, Settled, StoreLost
from gateway.storage.memory_rates import Rates, Refused

Spawn = Callable[[Coroutine[Any, Any, None], str], object]


@dataclass(slots=True, frozen=True)
class Metering:
    """What all meters share. ``fleet``: how many processes divide a limit while the store is lost;
    ``clock_s``: monotonic."""

    store: Admissions
    fleet: Callable[[], int]
    spawn: Spawn
    clock_s: Callable[[], float] = time.monotonic


@dataclass(slots=True)
class Leased:
    """``refused``: the limit that stood against it, None if all was granted; ``wait_s`` later it would
    fit. ``remaining``: of each limit, what the store has left."""

    remaining: list[int]
    refused: int | None = None
    wait_s: float = 0.0


class Meter:
    """One deployment's limits, by counter, in units a minute."""

    def __init__(self, deployment: str, limits: Sequence[tuple[str, int]], metering: Metering) -> None:
        self._tenant = f"deployment:{deployment}"
        self._limits = limits
        self._metering = metering
        self._numbers = count(time.time_ns() // 1000)  # never one of a former life of this writer
        self._told: list[Settled] = []
        self._local = Rates()

    async def lease(self, costs: Sequence[int]) -> Leased:
        """Takes ``costs``, one for each limit: all of them or nothing."""
        number = next(self._numbers)
        claims = [
            RateClaim(counter, limit, cost)
            for (counter, limit), cost in zip(self._limits, costs, strict=True)
        ]
        try:
            verdict = await self._metering.store.admit(Ask(self._tenant, number, claims))
        except StoreLost:
            return self._locally(costs)
        remaining = [state.remaining for state in verdict.rates]
        if verdict.decision != "admitted":
            return Leased(remaining, verdict.index, verdict.wait_us / 1e6)
        self._told.append(Settled(number))
        self._count(costs)
        return Leased(remaining)

    async def settle(self) -> None:
        """Nothing is held for a lease but its number, which the store may forget."""
        told, self._told = self._told, []
        try:
            if told:
                await self._metering.store.settle(self._tenant, told, ())
        except StoreLost:
            return  # the store forgets by itself

    def _locally(self, costs: Sequence[int]) -> Leased:
        claims, now_us = self._share(costs), self._now_us()
        charged = self._local.charged(claims, now_us)
        if isinstance(charged, Refused):
            return Leased(self._remaining(claims, now_us), charged.index, charged.wait_us / 1e6)
        self._local.store(charged, now_us)
        return Leased(self._remaining(claims, now_us))

    def _count(self, costs: Sequence[int]) -> None:
        """What is leased from the store is not to be had again when it is lost."""
        claims, now_us = self._share(costs), self._now_us()
        remaining = self._remaining(claims, now_us)
        self._local.correct(
            [(claim, min(claim.cost, left)) for claim, left in zip(claims, remaining, strict=True)], now_us
        )

    def _share(self, costs: Sequence[int]) -> list[RateClaim]:
        """This process's part of the limits; a cost that exceeds it takes all of it."""
        fleet = max(self._metering.fleet(), 1)
        shares = [max(limit // fleet, 1) for _, limit in self._limits]
        return [
            RateClaim(counter, share, min(cost, share))
            for (counter, _), share, cost in zip(self._limits, shares, costs, strict=True)
        ]

    def _remaining(self, claims: Sequence[RateClaim], now_us: int) -> list[int]:
        states: list[RateState] = self._local.states(claims, now_us)
        return [state.remaining for state in states]

    def _now_us(self) -> int:
        return ORIGIN_US + int(self._metering.clock_s() * 1e6)
