"""Budget thresholds: each is told once in a period, whoever of the fleet crosses it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from decimal import Decimal
from typing import Any, NamedTuple

from gateway.admission.terms import Terms
from gateway.storage.interface import Fund, FundState, Spent, Store, StoreLost

KEPT_AFTER_S = 40 * 86400
FOR_EVER_S = 0.0


class Alert(NamedTuple):
    """``share`` of the fund's limit has been spent; ``scope`` is as in ``Scope.name``."""

    tenant: str
    scope: str
    fund: Fund
    share: float
    spent_nanousd: int


class Alerts:
    """``terms``: of a tenant now. ``spawn``: runs what waits for the store. ``fire``: called once for
    each threshold."""

    def __init__(
        self,
        store: Store,
        terms: Callable[[str], Terms | None],
        spawn: Callable[[Coroutine[Any, Any, None], str], object],
        fire: Callable[[Alert], None],
    ) -> None:
        self._store = store
        self._terms = terms
        self._spawn = spawn
        self._fire = fire
        self._told: set[tuple[str, str, int, float]] = set()

    def began_with(self, tenant: str, fund: Fund, spent_nanousd: int) -> None:
        """What had been spent before this process began was told by the one before it, where no store
        remembers that."""
        if not self._store.shared:
            for alert in self._crossed(tenant, fund, spent_nanousd):
                self._told.add(_name(alert))

    def spent(self, tenant: str, spent: Spent, state: FundState) -> None:
        """The fleet has spent ``state`` of a fund."""
        for alert in self._crossed(tenant, spent.fund, state.spent_nanousd):
            name = _name(alert)
            if name not in self._told:
                self._told.add(name)
                self._spawn(self._claim(alert), "budget alert")

    def _crossed(self, tenant: str, fund: Fund, spent_nanousd: int) -> list[Alert]:
        terms = self._terms(tenant)
        scope = fund.name.rpartition(".")[0]
        shares = () if terms is None else terms.alert_at(scope)
        return [
            Alert(tenant, scope, fund, share, spent_nanousd)
            for share in shares
            if spent_nanousd >= Decimal(str(share)) * fund.limit_nanousd
        ]

    async def _claim(self, alert: Alert) -> None:
        """Whoever puts the mark tells it; when nobody can be asked, twice is better than never."""
        tenant, name, start_s, share = _name(alert)
        key = f"alert:{tenant}:{name}:{start_s}:{share}"
        length_s = alert.fund.end_s - alert.fund.start_s
        ttl_s = length_s + KEPT_AFTER_S if alert.fund.end_s else FOR_EVER_S
        try:
            if await self._store.put_new(key, b"1", ttl_s) is not None:
                return
        except StoreLost:
            pass
        self._fire(alert)


def _name(alert: Alert) -> tuple[str, str, int, float]:
    return alert.tenant, alert.fund.name, alert.fund.start_s, alert.share
