"""Asking a shard: for a tenth of a second, again where that can do no harm, and never when it is lost."""

from __future__ import annotations

import asyncio
import time
from typing import NoReturn

import hiredis

from gateway.storage import replies
from gateway.storage.interface import StoreLost
from gateway.storage.link import LinkLost, LinkSilent, Reply, Word, pack
from gateway.storage.scripts import Script
from gateway.storage.shard import Lane, Shard
from gateway.storage.shards import Shards

_ASKING = pack("ASKING")


class RedisCalls:
    """Raises ``StoreLost`` for whatever goes wrong. ``slot``: of the key; ``large``: not in the way of
    admissions; ``again``: whether a command may be repeated that may have been carried out already."""

    def __init__(self, shards: Shards) -> None:
        self._shards = shards

    async def run(
        self, script: Script, slot: int, words: list[Word], *, again: bool = True, large: bool = False
    ) -> Reply:
        """``words``: how many keys, the keys, the arguments."""
        return await self.ask(slot, ("EVALSHA", script.digest, *words), script, again=again, large=large)

    async def ask(
        self,
        slot: int,
        words: tuple[Word, ...],
        script: Script | None = None,
        *,
        again: bool = True,
        large: bool = False,
    ) -> Reply:
        shard = self._shards.at(slot)
        guard = shard.guard
        if guard.lost is not None:
            raise StoreLost(guard.lost)
        asked_s = time.monotonic()
        lane = shard.cold if large else shard.hot
        try:
            link = lane.link
            if link is None or link.closed:
                link = await lane.opened()
            reply = await link.ask(pack(*words))
        except StoreLost as lost:
            reply = lost
        if isinstance(reply, Exception):
            return await self._otherwise(_Call(shard, words, script, asked_s, again, large), reply)
        guard.succeeded()
        return reply

    async def _otherwise(self, call: _Call, failure: Exception) -> Reply:
        """Another try for each thing that another try can help, but not twice for the same."""
        answer_s = self._shards.target.answer_s
        try:
            async with asyncio.timeout(answer_s):
                return await self._try_again(call, failure)
        except TimeoutError:
            self._fail(call, LinkSilent(f"Redis did not answer in {answer_s * 1e3:.0f} ms."))

    async def _try_again(self, call: _Call, failure: Exception) -> Reply:
        tried: set[str] = set()
        reply: Reply = failure
        while isinstance(reply, Exception):
            kind = _kind(reply, call)
            if kind in tried:
                self._fail(call, reply)
            tried.add(kind)
            if kind == "NOSCRIPT" and call.script is not None:
                call.words = ("EVAL", call.script.source, *call.words[2:])
            elif kind in ("MOVED", "ASK"):
                call.shard = self._pointed_to(reply)
            elif kind in replies.MOVED:
                call.shard.drop()
                self._shards.look_again()
            elif kind != "LOST":
                self._fail(call, reply)
            reply = await call.once(asking=kind == "ASK")
        call.shard.guard.succeeded()
        return reply

    def _pointed_to(self, moved: Exception) -> Shard:
        self._shards.look_again()
        host, _, port = str(moved).split()[2].rpartition(":")
        return self._shards.named((host or self._shards.target.addresses[0][0], int(port)))

    def _fail(self, call: _Call, failure: Exception) -> NoReturn:
        self._shards.look_again()
        shard, reason = call.shard, str(failure)
        if isinstance(failure, hiredis.ReplyError):
            link = call.lane.link
            reason = replies.reason("the given address" if link is None else link.name, failure)
        if replies.kind(failure) in replies.HARMLESS:
            shard.guard.succeeded()
        else:
            shard.guard.failed(reason, call.asked_s)
        raise StoreLost(reason) from None


class _Call:
    """One command on its way; ``asked_s``: since when (``time.monotonic``)."""

    __slots__ = ("again", "asked_s", "large", "script", "shard", "words")

    def __init__(
        self,
        shard: Shard,
        words: tuple[Word, ...],
        script: Script | None,
        asked_s: float,
        again: bool,
        large: bool,
    ) -> None:
        self.shard = shard
        self.words = words
        self.script = script
        self.asked_s = asked_s
        self.again = again
        self.large = large

    @property
    def lane(self) -> Lane:
        return self.shard.cold if self.large else self.shard.hot

    async def once(self, asking: bool) -> Reply:
        """The answer, or as an exception why there is none."""
        try:
            link = await self.lane.opened()
            if asking:
                link.ask(_ASKING)
            return await link.ask(pack(*self.words))
        except StoreLost as lost:
            return lost


def _kind(failure: Exception, call: _Call) -> str:
    if isinstance(failure, hiredis.ReplyError):
        return replies.kind(failure)
    return "LOST" if call.again and isinstance(failure, LinkLost) else ""
