"""What a change of the control state does in this process, beside refusing requests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gateway.control.kills import KillSwitches, stops_running
from gateway.control.live import LiveExchanges
from gateway.control.state import Entry, MadeKey, Switch
from gateway.interrupt import Reason
from gateway.telemetry.log import Log
from gateway.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from gateway.exchange import Exchange
    from gateway.runtime import Snapshot


def show(switches: KillSwitches, snapshot: Snapshot | None, metrics: Metrics) -> None:
    """To routing, and in metrics."""
    for group in {} if snapshot is None else snapshot.groups.values():
        for one in group.deployments:
            one.health.stopped = switches.text.get(one.id)
    family = metrics.kill_switch
    shown = {(one.scope, one.name) for one in switches}
    for labels, _ in family.children():
        if labels not in shown:
            family.drop(*labels)
    for scope, name in shown:
        family.child(scope, name).set(1)


def tell(entry: Entry, log: Log) -> None:
    """In the log, of every process that hears of it."""
    if isinstance(entry, Switch):
        event = "kill_switch_on" if entry.on else "kill_switch_off"
        fields = {"reason": entry.reason, "cut_streams": entry.cut_streams} if entry.on else {}
        log.event(event, level="warning", scope=entry.scope, name=entry.name, **fields)
        return
    if entry.revoked_s is not None:
        event = "key_revoked"
    elif isinstance(entry, MadeKey) and entry.created_s == entry.changed_s:
        event = "key_made"
    else:
        event = "key_expires"
    log.event(event, tenant=entry.tenant, key=entry.id)


def cuts(entry: Entry, now_s: float) -> bool:
    """Whether what runs already is to end."""
    if isinstance(entry, Switch):
        return entry.cut_streams and not entry.over(now_s)
    return entry.cut and entry.revoked_s is not None


def end_running(entries: Sequence[Entry], live: LiveExchanges) -> int:
    """Ends what one of ``entries`` stops; how many that were."""
    ended = 0
    for exchange in live:
        if any(_ends(entry, exchange) for entry in entries):
            exchange.interrupt.fire(Reason.KILL_SWITCH)
            ended += 1
    return ended


def _ends(entry: Entry, exchange: Exchange) -> bool:
    if isinstance(entry, Switch):
        return stops_running(entry, exchange)
    key = exchange.key
    return key is not None and key.digest == bytes.fromhex(entry.digest)
