"""What a process has heard of the control state, how it hears more, and how it tells the others.

In the store lie a version, which every change raises, and a hash of entries. An entry's field is its own
(the version is in its name), so that nobody who writes back what a store has forgotten can put an older
entry over a newer one. A change is written, the version raised, the epochs of the tenants concerned too,
and only then is it published: who hears of any of these finds the entry.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from math import inf
from typing import Protocol

from gateway.control.known import KnownFile
from gateway.control.state import Entry, State, decode, encode
from gateway.storage.interface import Bus, Records, StoreLost

VERSION, ENTRIES, TOPIC = "control:version", "control:entries", "control"
POLL_S = 0.25
WHOLE_S = 30.0
"""So often all entries are read again, whatever the version says."""


class SharedRecords(Records, Bus, Protocol):
    """As much of a ``Store`` as is needed here."""

    shared: bool

    @property
    def lost(self) -> str | None: ...


class Listener(Protocol):
    def applied(self, state: State, news: Sequence[Entry], *, first: bool) -> None:
        """``state`` holds from now on; ``news``: what is new in it. ``first``: so it was found, at the
        start. Must not raise or wait."""
        ...


Make = Callable[[int, float], Sequence[Entry]]
"""Entries with this version, changed at this time (seconds since the epoch)."""


class Watch:
    """``tenants``: all that there are. ``failed``: hears why the store could not be asked."""

    def __init__(
        self,
        store: SharedRecords,
        file: KnownFile,
        listener: Listener,
        tenants: Callable[[], Sequence[str]],
        failed: Callable[[str], None],
    ) -> None:
        self._store = store
        self._file = file
        self._listener = listener
        self._tenants = tenants
        self._failed = failed
        self._lock = asyncio.Lock()
        self._saving = asyncio.Lock()
        self._wake = asyncio.Event()
        self._asked = self._answered = self._in_vain = 0
        self._why = ""
        self._whole_s = -inf
        self._began_s = time.time()
        self._synced = False
        self.state, self._heard_s = file.load()
        self._saved = self.state
        self._listener.applied(self.state, list(self.state.entries.values()), first=True)
        store.listen(self._heard)

    @property
    def deaf(self) -> bool:
        """Whether the store could not be asked when last tried."""
        return self._store.lost is not None or self._in_vain > self._answered

    def stale_s(self) -> float:
        """Seconds since the store was heard; 0 where it is heard all the time."""
        since_s = time.time() - (self._began_s if self._heard_s is None else self._heard_s)
        return max(since_s, 0.0) if self.deaf or since_s > 4 * POLL_S else 0.0

    @property
    def shared(self) -> bool:
        return self._store.shared

    async def run(self) -> None:
        """Polls, for messages can be lost; and writes down what has changed."""
        while True:
            self._wake.clear()
            try:
                await self.refresh()
            except StoreLost:
                pass
            await self.save()
            try:
                async with asyncio.timeout(POLL_S):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def refresh(self) -> None:
        """Returns after a look at the store that began after this call; raises ``StoreLost``.

        One look serves all that were waiting when it began.
        """
        self._asked = ticket = self._asked + 1
        async with self._lock:
            if self._answered >= ticket:
                return
            if self._in_vain >= ticket:
                raise StoreLost(self._why)
            serves = self._asked
            try:
                await self._look()
            except StoreLost as lost:
                self._in_vain, self._why, self._whole_s = serves, str(lost), -inf
                self._failed(self._why)
                raise
            self._answered = serves

    async def change(self, make: Make, tenants: Sequence[str]) -> None:
        """Makes a change known to all; raises ``StoreLost`` when it may not have been carried out."""
        version = await self._next_version()
        entries = make(version, time.time())
        await self._store.put_fields(ENTRIES, _fields(entries), 0)
        signal = await self._store.add(VERSION, 1, 0)
        self._apply(entries, self.state.version)
        await self._store.bump(tenants)
        await self.save()
        try:
            await self._store.publish(TOPIC, b"%d" % signal)
        except StoreLost:
            pass  # the poll finds it

    async def change_here(self, make: Make) -> None:
        """Makes a change in this process, to be told to the others when the store is back."""
        version = max(self.state.newest + 1, time.time_ns() // 1000)
        self._apply(make(version, time.time()), self.state.version)
        self._whole_s = -inf
        await self.save()

    async def save(self) -> None:
        """To the disk, if there is anything new."""
        async with self._saving:
            state = self.state
            if state is not self._saved and await asyncio.to_thread(self._file.save, state, self._heard_s):
                self._saved = state

    def _heard(self, topic: str, message: bytes) -> None:
        if topic == TOPIC and message != b"%d" % self.state.version:
            self._wake.set()

    async def _look(self) -> None:
        began_s, whole_s = time.time(), time.monotonic()
        held = await self._store.get(VERSION) or b""
        version = int(held) if held.isdigit() else 0
        if version != self.state.version or not self._synced or whole_s > self._whole_s + WHOLE_S:
            fields = await self._store.fields(ENTRIES)
            found = [one for raw in fields.values() if (one := decode(raw)) is not None]
            theirs = State().later(found)
            self._apply(theirs, version, first=not self._synced)
            self._synced = True
            await self._tidy(fields, {entry.slot: entry.version for entry in theirs})
            self._whole_s = whole_s
        self._heard_s = began_s

    async def _tidy(self, fields: dict[str, bytes], theirs: dict[str, int]) -> None:
        """Tells a store what it does not know or has forgotten, and drops what is overtaken."""
        ours = self.state.entries.values()
        missing = [entry for entry in ours if theirs.get(entry.slot, -1) < entry.version]
        if missing:
            await self._store.put_fields(ENTRIES, _fields(missing), 0)
            signal = await self._next_version()
            await self._store.bump(self._tenants())
            await self._store.publish(TOPIC, b"%d" % signal)
        held = {_field(entry) for entry in ours}
        understood = [name for name, raw in fields.items() if decode(raw) is not None]
        overtaken = [name for name in understood if name not in held]
        if overtaken:
            await self._store.drop_fields(ENTRIES, overtaken)

    def _apply(self, entries: Iterable[Entry], version: int, *, first: bool = False) -> None:
        news = self.state.later(entries)
        if not news and version == self.state.version:
            return
        self.state = self.state.joined(news, version)
        if news:
            self._listener.applied(self.state, news, first=first)

    async def _next_version(self) -> int:
        """Larger than all that are known, and than all that a store without memory can know of: versions
        keep up with the time in microseconds."""
        version = await self._store.add(VERSION, 1, 0)
        least = max(self.state.newest + 1, time.time_ns() // 1000)
        return version if version >= least else await self._store.add(VERSION, least - version, 0)


def _field(entry: Entry) -> str:
    return f"{entry.version}:{entry.slot}"


def _fields(entries: Iterable[Entry]) -> dict[str, bytes]:
    return {_field(entry): encode(entry) for entry in entries}
