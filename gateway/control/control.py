"""What operators have decided, as this process obeys it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.control.claims import Claims
from gateway.control.effects import cuts, end_running, show, tell
from gateway.control.keys import INVALID
from gateway.control.kills import KillSwitches, resolved
from gateway.control.known import KnownFile
from gateway.control.live import LiveExchanges
from gateway.control.state import Entry, State, Switch
from gateway.control.watch import Make, SharedRecords, Watch
from gateway.errors import InvalidApiKey, InvalidRequest, NotFound, Unavailable
from gateway.storage.interface import StoreLost
from gateway.telemetry.log import Log
from gateway.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from gateway.exchange import Exchange
    from gateway.runtime import Snapshot


class Control:
    """``renewed`` is called when keys may have become others. ``adopt`` must be called before anything
    is asked."""

    def __init__(
        self,
        store: SharedRecords,
        data_dir: Path,
        live: LiveExchanges,
        metrics: Metrics,
        log: Log,
    ) -> None:
        self._live = live
        self._metrics = metrics
        self._log = log
        self._snapshot: Snapshot | None = None
        self._files: tuple[Switch, ...] = ()
        self._switches = KillSwitches((), None)
        self._epochs: dict[str, int] = {}
        self.renewed: Callable[[], None] = lambda: None
        self._timer: asyncio.TimerHandle | None = None
        file = KnownFile(data_dir, self._file_report)
        self.watch = Watch(store, file, self, self._tenants, self._store_failed)
        self._claims = Claims(store)
        metrics.control_stale.set_source(self.watch.stale_s)

    async def run(self) -> None:
        await self.watch.run()

    # -- what requests ask

    def check(self, exchange: Exchange) -> None:
        """Raises ``Forbidden`` for what a kill switch stops, ``InvalidApiKey`` for a key that has been
        revoked since the exchange began."""
        key = exchange.key
        if key is not None and key.digest in self.watch.state.revoked:
            raise InvalidApiKey(INVALID)
        if self._switches:
            self._switches.check(exchange)

    def behind(self, tenant: str, epoch: int) -> bool:
        """Whether more has been decided than is known here; ``epoch``: the tenant's, by the store."""
        return self._epochs.get(tenant) != epoch

    async def catch_up(self, tenant: str, epoch: int) -> None:
        """Returns when all that the store knew is known here; while it is away, at once."""
        try:
            await self.watch.refresh()
        except StoreLost:
            return
        self._epochs[tenant] = epoch

    # -- what operators ask

    def switches(self) -> list[tuple[Switch, str, bool]]:
        """Those that are on: each with where it comes from (api or file), and whether there is what it
        names."""
        now_s = time.time()
        found = [(one, "file") for one in self._files]
        found += [(one, "api") for one in self.watch.state.switches if not one.over(now_s)]
        return [(one, source, self._is_known(one)) for one, source in found]

    async def turn_on(
        self, scope: str, name: str, reason: str, expires_in_s: float | None, cut_streams: bool
    ) -> tuple[Switch, bool, bool]:
        """The switch, whether there is what it names, and whether the other processes know of it: while
        the store is away it holds here, and they hear of it later. Raises ``InvalidRequest``."""
        name, known = self._resolved(scope, name)

        def make(version: int, now_s: float) -> list[Entry]:
            until_s = None if expires_in_s is None else now_s + expires_in_s
            return [Switch(scope, name, True, version, now_s, reason, until_s, cut_streams)]

        shared = await self._decide(make, self._concerned(scope, name))
        switch = self.watch.state.entries[f"switch:{scope}:{name}"]
        assert isinstance(switch, Switch)
        return switch, known, shared

    async def turn_off(self, scope: str, name: str) -> tuple[str, bool]:
        """The name, and whether the other processes know of it. Raises ``InvalidRequest`` for a switch of
        a file, ``NotFound`` for one that is not on."""
        written = name
        name, _ = self._resolved(scope, name)
        if any((one.scope, one.name) == (scope, name) for one in self._files):
            raise InvalidRequest("This kill switch stands in the configuration; remove it there.")
        await self.catch_up_quietly()
        names = [one.name for one in self.watch.state.switches if one.scope == scope]
        if name not in names:
            name = written  # what an alias stood for, or who had a key, may have changed since
        if name not in names:
            raise NotFound(f"There is no kill switch {scope} {name}".rstrip() + " that is on.")

        def make(version: int, now_s: float) -> list[Entry]:
            return [Switch(scope, name, False, version, now_s)]

        return name, await self._decide(make, self._concerned(scope, name))

    async def catch_up_quietly(self) -> None:
        """A look at the store, if it can be asked."""
        try:
            await self.watch.refresh()
        except StoreLost:
            pass

    async def _decide(self, make: Make, tenants: Sequence[str]) -> bool:
        """Whether the other processes know."""
        try:
            await self.watch.change(make, tenants)
        except StoreLost:
            await self.watch.change_here(make)
            return False
        return True

    async def revoke(self, make: Make, tenant: str) -> bool:
        """``make``: an entry that ends a key. Whether the other processes know of it."""
        return await self._decide(make, [tenant])

    async def claim(self, tenant: str, id: str, digest: str) -> bool:
        """Whether no other process makes a key with this id, or has made one that still works; then all
        keys are known here. Raises ``Unavailable`` while the store is away."""
        try:
            await self.watch.refresh()
            had = await self._claims.take(tenant, id, digest, self._is_over)
            await self.watch.refresh()
        except StoreLost as lost:
            await self.unclaim(tenant, id, digest)
            raise _no_keys(lost) from None
        return had

    async def unclaim(self, tenant: str, id: str, digest: str) -> None:
        """While the store is away the claim runs out by itself."""
        try:
            await self._claims.drop(tenant, id, digest)
        except StoreLost:
            pass

    async def add(self, make: Make, tenant: str) -> None:
        """``make``: a new key. Raises ``Unavailable`` while the store is away."""
        try:
            await self.watch.change(make, [tenant])
        except StoreLost as lost:
            raise _no_keys(lost) from None

    # -- what changes

    def adopt(self, snapshot: Snapshot, files: Iterable[tuple[str, str, str, bool]]) -> None:
        """From now on this is configured. ``files``: the kill switches that stand in it, as scope, name,
        reason and whether running streams are cut."""
        before = {one.slot for one in self._files}
        self._snapshot = snapshot
        now_s = time.time()
        self._files = tuple(
            Switch(scope, self._resolved(scope, name)[0], True, 0, now_s, reason, None, cut)
            for scope, name, reason, cut in files
        )
        self._renew()
        self._cut([one for one in self._files if one.cut_streams and one.slot not in before])

    def applied(self, state: State, news: Sequence[Entry], *, first: bool) -> None:
        now_s = time.time()
        self._renew(state)
        for entry in news if not first else ():
            if isinstance(entry, Switch):
                self._metrics.kill_switch_propagation.observe(max(now_s - entry.changed_s, 0.0))
            tell(entry, self._log)
        if not first:
            self._cut([entry for entry in news if cuts(entry, now_s)])

    def _renew(self, state: State | None = None) -> None:
        """What holds now, and once more when the next switch expires."""
        now_s = time.time()
        state = state or self.watch.state
        on = [one for one in state.switches if not one.over(now_s)]
        self._switches = KillSwitches([*self._files, *on], self._snapshot)
        show(self._switches, self._snapshot, self._metrics)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = [one.expires_s for one in on if one.expires_s is not None]
        if due:
            wait_s = min(max(min(due) - now_s, 0.0) + 0.001, 3600.0)
            self._timer = asyncio.get_running_loop().call_later(wait_s, self._renew)
        self.renewed()

    def _cut(self, entries: Sequence[Entry]) -> None:
        """Not at once: it may be an exchange of the task that heard of it."""
        if entries:
            asyncio.get_running_loop().call_soon(self._end, entries)

    def _end(self, entries: Sequence[Entry]) -> None:
        ended = end_running(entries, self._live)
        self._log.event("kill_switch_cut", level="warning", exchanges=ended)

    def _resolved(self, scope: str, name: str) -> tuple[str, bool]:
        assert self._snapshot is not None
        made = [(one.tenant, one.id) for one in self.watch.state.keys.values() if one.revoked_s is None]
        return resolved(scope, name, self._snapshot, made)

    def _is_over(self, digest: str) -> bool:
        """Whether there was such a key, and it works no more."""
        key = self.watch.state.keys.get(bytes.fromhex(digest))
        if key is None:
            return False
        return key.revoked_s is not None or (key.expires_s is not None and time.time() >= key.expires_s)

    def _is_known(self, switch: Switch) -> bool:
        try:
            return self._resolved(switch.scope, switch.name)[1]
        except InvalidRequest:  # several keys by now
            return True

    def _concerned(self, scope: str, name: str) -> list[str]:
        tenants = self._tenants()
        if scope == "tenant":
            return [name]
        owners = [tenant for tenant in tenants if name.startswith(f"{tenant}/")]
        return owners if scope == "key" and owners else tenants

    def _tenants(self) -> list[str]:
        return [] if self._snapshot is None else list(self._snapshot.tenants)

    def _store_failed(self, why: str) -> None:
        self._metrics.storage_errors.child("control").inc()

    def _file_report(self, event: str, **fields: str) -> None:
        self._metrics.storage_errors.child("control").inc()
        self._log.event(event, **fields)


def _no_keys(lost: StoreLost) -> Unavailable:
    return Unavailable(
        "Keys cannot be made while the store is away.",
        code="storage_unavailable",
        retry_after_s=1,
        detail=str(lost),
    )
