"""One Redis server as the store uses it: where it is now, two lanes to it, and its guard."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable

import hiredis

from gateway.storage import replies
from gateway.storage.guard import Guard, Spawn
from gateway.storage.interface import StoreLost
from gateway.storage.link import Link, pack
from gateway.storage.redis_url import Address, RedisTarget

PROBE = pack("SET", "lg1:probe", "1", "PX", 60000)
"""A write: so a replica, or a server that is full, is not taken for a good one."""
_ELSEWHERE = frozenset({"MOVED", "ASK", "CROSSSLOT"})

CLOSED = "The store is closed."

Resolve = Callable[[], Awaitable[Address]]


class LinkRefused(StoreLost):
    """The server wants another password."""


async def open_link(target: RedisTarget, address: Address, tls: ssl.SSLContext | None) -> Link:
    """A connection that is logged in; raises ``StoreLost``."""
    loop = asyncio.get_running_loop()
    name = f"{address[0]}:{address[1]}"
    link = Link(loop, name, target.answer_s)
    try:
        async with asyncio.timeout(target.answer_s):
            await loop.create_connection(lambda: link, *address, ssl=tls)
    except OSError as error:
        link.close()
        why = (
            f"no connection in {target.answer_s * 1e3:.0f} ms"
            if isinstance(error, TimeoutError)
            else str(error)
        )
        raise StoreLost(f"Redis at {name} cannot be reached: {why}.") from None
    try:
        await _log_in(link, target)
    except BaseException:
        link.close()
        raise
    return link


async def _log_in(link: Link, target: RedisTarget) -> None:
    steps: list[tuple[str, ...]] = [("PING",)]
    if target.db:
        steps.insert(0, ("SELECT", str(target.db)))
    if target.password:
        user = (target.user,) if target.user else ()
        steps.insert(0, ("AUTH", *user, target.password))
    for reply in await asyncio.gather(*(link.ask(pack(*step)) for step in steps)):
        if isinstance(reply, hiredis.ReplyError):
            lost = LinkRefused if replies.kind(reply) in replies.REFUSED else StoreLost
            raise lost(replies.reason(link.name, reply))


class Lane:
    """One connection that is made when it is needed, by one task for all that wait for it."""

    __slots__ = ("_answer_s", "_closed", "_open", "_opening", "_spawn", "_waiting", "link")

    def __init__(self, open_: Callable[[], Awaitable[Link]], spawn: Spawn, answer_s: float) -> None:
        self._answer_s = answer_s
        self._open = open_
        self._spawn = spawn
        self._opening = False
        self._closed = False
        self._waiting: list[asyncio.Future[Link]] = []
        self.link: Link | None = None

    async def opened(self) -> Link:
        """Raises ``StoreLost`` within ``answer_s``."""
        if self.link is not None and not self.link.closed:
            return self.link
        if self._closed:
            raise StoreLost(CLOSED)
        waiter: asyncio.Future[Link] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        if not self._opening:
            self._opening = True
            self._spawn(self._run(), "storage_connect")
        try:
            async with asyncio.timeout(self._answer_s):
                return await waiter
        except TimeoutError:
            raise StoreLost(f"Redis could not be reached in {self._answer_s * 1e3:.0f} ms.") from None

    def drop(self) -> None:
        if self.link is not None:
            self.link.close()
            self.link = None

    def close(self) -> None:
        self._closed = True
        self.drop()

    async def _run(self) -> None:
        lost = StoreLost(CLOSED)
        try:
            self.link = await self._open()
        except StoreLost as error:
            lost = error
        finally:
            self._opening = False
            waiting, self._waiting = self._waiting, []
            for waiter in waiting:
                if waiter.done():
                    continue
                if self.link is not None and not self.link.closed:
                    waiter.set_result(self.link)
                else:
                    waiter.set_exception(lost)


class Shard:
    """``hot`` is for admissions, ``cold`` for what may be large. ``refresh`` finds out, before each probe,
    whether the server is still the one that counts."""

    __slots__ = ("_resolve", "_target", "_tls", "cold", "guard", "hot", "refresh")

    def __init__(
        self,
        target: RedisTarget,
        tls: ssl.SSLContext | None,
        resolve: Resolve,
        refresh: Callable[[], Awaitable[None]] | None,
        spawn: Spawn,
        changed: Callable[[], None],
    ) -> None:
        self._target = target
        self._tls = tls
        self._resolve = resolve
        self.refresh = refresh
        self.hot = Lane(self._open, spawn, target.answer_s)
        self.cold = Lane(self._open, spawn, target.answer_s)
        self.guard = Guard(self._probe, spawn, changed)

    def drop(self) -> None:
        """Both connections end; the next ones are made to where the server is then."""
        self.hot.drop()
        self.cold.drop()

    def close(self) -> None:
        """The server is not ours any more."""
        self.guard.close(CLOSED)
        self.hot.close()
        self.cold.close()

    async def _open(self) -> Link:
        return await open_link(self._target, await self._resolve(), self._tls)

    async def _probe(self) -> None:
        """Over a connection of its own time: the old one may lead nowhere."""
        self.drop()
        try:
            if self.refresh is not None:
                await self.refresh()
            link = await self.hot.opened()
            reply = await link.ask(PROBE)
            if isinstance(reply, hiredis.ReplyError) and replies.kind(reply) not in _ELSEWHERE:
                raise StoreLost(replies.reason(link.name, reply))
        except StoreLost:
            self.drop()
            raise
