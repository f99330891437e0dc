"""Load: an exchange gets its place before its body is read, or a quick refusal."""

from __future__ import annotations

from gateway.control.concurrency import Concurrency, Permit
from gateway.control.memory import Memory
from gateway.exchange import Exchange, Outcome
from gateway.stage import Stage


class Admit:
    def __init__(self, concurrency: Concurrency, memory: Memory) -> None:
        self._concurrency = concurrency
        self._memory = memory

    def begin(self, exchange: Exchange) -> Stage:
        return _Place(self._concurrency, self._memory)


class _Place(Stage):
    __slots__ = ("_concurrency", "_memory", "_permit")

    def __init__(self, concurrency: Concurrency, memory: Memory) -> None:
        self._concurrency = concurrency
        self._memory = memory
        self._permit = Permit()

    async def enter(self) -> None:
        self._memory.admit()
        await self._concurrency.take(self._permit)

    def close(self, outcome: Outcome) -> None:
        self._concurrency.give(self._permit)
