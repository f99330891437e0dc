"""Admission wired: the controller, the reconciler, and what the log, the metrics and people hear of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from gateway.accounting.money import format_usd, to_nanousd
from gateway.admission.account import History
from gateway.admission.alerts import Alert, Alerts
from gateway.admission.controller import AdmissionController
from gateway.admission.reconciler import Reconciler
from gateway.admission.terms import Terms
from gateway.admission.without_store import WithoutStore
from gateway.edge.tenants import BudgetState, LimitState, TenantState
from gateway.storage.interface import RENEW_S, Fund, FundState, Spent, Store, StoreLost
from gateway.tasks import Tasks
from gateway.telemetry.log import Log
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.webhook import post

NANO = 1e9
_SCOPES = {"t": "tenant", "k": "key", "f": "feature", "u": "user"}


class AdmissionParts:
    """``terms``: of all tenants now. ``history``: what the ledger says was spent. ``webhook_url``: where
    alerts go, None for nowhere. ``swept``: hears what a dead writer had open, ``left`` what a former life
    of this one had."""

    def __init__(
        self,
        store: Store,
        terms: Callable[[], Mapping[str, Terms]],
        history: History,
        webhook_url: Callable[[], str | None],
        swept: Callable[[bytes], None],
        log: Log,
        metrics: Metrics,
        tasks: Tasks,
        left: Callable[[list[bytes]], None] = lambda notes: None,
    ) -> None:
        self._store = store
        self._terms = terms
        self._history = history
        self._webhook_url = webhook_url
        self._log = log
        self._metrics = metrics
        self._tasks = tasks
        self._alerts = Alerts(store, self._terms_of, tasks.spawn, self._alert)
        without_store = WithoutStore(store, self._limited)
        self.reconciler = Reconciler(
            store,
            without_store,
            self._spent_before,
            funded=self._funded,
            swept=swept,
            left=left,
            ledger=history,
        )
        self.controller = AdmissionController(
            store, without_store, self.reconciler, self._terms_of, limited=self._limited
        )
        metrics.reservations_open.set_source(lambda: self.controller.open)
        store.on_change(self._store_changed)

    async def connect(self) -> None:
        """Tells the store what this writer has spent, by its ledger; it may have died before."""
        for tenant in self._terms():
            try:
                await self.fund_states(tenant)
            except StoreLost:
                self._store_changed(self._store.lost or "not reached")
                return

    def start(self) -> None:
        self._tasks.keep(self.reconciler.run, "settlements")
        self._tasks.keep(self._renew, "leases")

    def funds(self) -> list[tuple[str, list[Fund]]]:
        """The budgets of this moment that are known beforehand, by tenant."""
        now_s = self.controller.now_s()
        return [(name, terms.funds(now_s)) for name, terms in self._terms().items()]

    async def fund_states(self, tenant: str) -> list[tuple[str, Fund, FundState]]:
        """Of all budgets of a tenant that are known beforehand: scope, fund and state. Raises
        ``StoreLost``."""
        terms = self._terms()[tenant]
        scopes, funds = terms.budget_scopes(), terms.funds(self.controller.now_s())
        if not funds:
            return []
        await self.reconciler.introduce(tenant, funds)
        states = await self._store.fund_states(tenant, funds)
        return [(scope.name, fund, state) for scope, fund, state in zip(scopes, funds, states, strict=True)]

    async def tenant_states(self, models: Callable[[str], list[str] | None]) -> list[TenantState]:
        """Of all tenants; ``models``: what each may ask for, None for all."""
        return [await self._tenant_state(terms, models(name)) for name, terms in self._terms().items()]

    async def _tenant_state(self, terms: Terms, models: list[str] | None) -> TenantState:
        limits = terms.own.limits
        try:
            states = await self.fund_states(terms.tenant)
            budgets = [self._budget_state(*state) for state in states]
        except StoreLost:
            budgets = None
        return TenantState(
            tenant=terms.tenant,
            models=models,
            limits=LimitState(rpm=limits.rpm, tpm=limits.tpm, concurrency=limits.concurrency),
            budgets=budgets,
        )

    def _budget_state(self, scope: str, fund: Fund, state: FundState) -> BudgetState:
        name, _, period = fund.name.rpartition(".")
        return BudgetState.model_validate(
            {
                "scope": _shown(name),
                "period": period,
                "limit_usd": format_usd(fund.limit_nanousd),
                "spent_usd": format_usd(state.spent_nanousd),
                "reserved_usd": format_usd(state.used_nanousd - state.spent_nanousd),
                "remaining_usd": format_usd(fund.limit_nanousd - state.used_nanousd),
                "returns": self._log.timestamp(fund.end_s) if fund.end_s else None,
            }
        )

    def count(self, facts: Mapping[str, Any]) -> None:
        """Counts an exchange of a former life, whose row is written only now; ``facts``: of its note."""
        terms = self._terms().get(facts["tenant"])
        if terms is not None:
            charged = to_nanousd(Decimal(facts["reserved_usd"]))
            bound = terms.bound(facts["key"], facts["model"], facts["feature"], facts["user"])
            self.reconciler.count(facts["tenant"], bound.funds(facts["admitted"]), charged)

    async def _renew(self) -> None:
        while True:
            await self._show_budgets()
            await asyncio.sleep(RENEW_S)
            if self._store.shared:  # whoever dies is swept, also where nobody asks any more
                for tenant in self._terms():
                    self.reconciler.account(tenant)
            await self.reconciler.renew_once()

    async def _show_budgets(self) -> None:
        for tenant, terms in self._terms().items():
            if terms.own.budget is not None and self._store.lost is None:
                try:
                    states = await self.fund_states(tenant)
                except StoreLost:
                    return
                for scope, fund, state in states:
                    if scope == "t":
                        self._show(tenant, fund, state)

    def _show(self, tenant: str, fund: Fund, state: FundState) -> None:
        self._metrics.budget_remaining.child(tenant).set((fund.limit_nanousd - state.used_nanousd) / NANO)

    def _limited(self, tenant: str, limit: str) -> None:
        self._metrics.rate_limited.child(tenant, limit).inc()

    def _terms_of(self, tenant: str) -> Terms | None:
        return self._terms().get(tenant)

    def _spent_before(self, tenant: str, fund: Fund) -> int:
        spent = self._history(tenant, fund)
        self._alerts.began_with(tenant, fund, spent)
        return spent

    def _funded(self, tenant: str, spent: Spent, state: FundState) -> None:
        self._alerts.spent(tenant, spent, state)
        if spent.fund.name.startswith("t."):
            self._show(tenant, spent.fund, state)

    def _alert(self, alert: Alert) -> None:
        event: dict[str, Any] = {
            "tenant": alert.tenant,
            "scope": _shown(alert.scope),
            "share": alert.share,
            "spent_usd": format_usd(alert.spent_nanousd),
            "limit_usd": format_usd(alert.fund.limit_nanousd),
            "period_ends": self._log.timestamp(alert.fund.end_s) if alert.fund.end_s else None,
        }
        self._log.event("budget_alert", level="warning", **event)
        self._metrics.budget_alerts.child(alert.tenant, f"{alert.share:g}").inc()
        url = self._webhook_url()
        if url is not None:
            event = {"event": "budget_alert", "time": self._log.timestamp(time.time()), **event}
            self._tasks.spawn(post(url, event, self._webhook_failed), "webhook")

    def _webhook_failed(self, reason: str) -> None:
        self._log.event("webhook_failed", level="error", reason=reason)

    def _store_changed(self, lost: str | None) -> None:
        if lost is None:
            self._log.event("storage_back", level="warning")
        else:
            self._metrics.storage_errors.child("lost").inc()
            self._log.event("storage_lost", level="error", reason=lost)


def _shown(scope: str) -> str:
    """The name of a scope for people: ``feature:search`` for ``f:search``."""
    return _SCOPES[scope[0]] + scope[1:]
