"""Admission and settlement: what may begin, and what it has cost when it ends."""

from __future__ import annotations

from typing import Protocol

from gateway.accounting.attempts import AttemptRows
from gateway.accounting.journal import Journal
from gateway.accounting.settle import Settler
from gateway.accounting.settlement import Books, Settlement
from gateway.admission.controller import AdmissionController
from gateway.admission.terms import Bound, Terms
from gateway.errors import Forbidden, LimitExceeded, Unavailable
from gateway.exchange import Exchange, Outcome
from gateway.routing.attempt import Attempt
from gateway.routing.demand import Demand, demand_of, rough_demand
from gateway.routing.deployment import Deployment
from gateway.stage import Stage


class Heed(Protocol):
    """What operators have decided: ``epoch`` is a tenant's, and changes with every decision."""

    def behind(self, tenant: str, epoch: int) -> bool: ...

    async def catch_up(self, tenant: str, epoch: int) -> None: ...

    def check(self, exchange: Exchange) -> None:
        """Raises what stands against the exchange now."""
        ...


class Limits:
    """Every exchange that it lets pass has exactly one row in the ledger."""

    def __init__(
        self,
        journal: Journal,
        settler: Settler,
        books: Books,
        controller: AdmissionController,
        control: Heed,
    ) -> None:
        self._journal = journal
        self._settler = settler
        self._books = books
        self._controller = controller
        self._control = control
        self._rows = AttemptRows(journal)

    def begin(self, exchange: Exchange) -> Stage:
        return _Admission(exchange, self)

    def check(self, exchange: Exchange) -> None:
        """Raises what stands against it whatever it may use; nothing is spent yet."""
        if not self._journal.admitting:
            raise Unavailable(
                "The ledger cannot be written; nothing is admitted until it can.",
                code="storage_unavailable",
                retry_after_s=5,
                detail=self._journal.error,
            )
        self._settler.admit()
        assert exchange.route is not None and exchange.key is not None
        if exchange.route.unpriced and not exchange.key.tenant.flag_unpriced:
            raise Forbidden(
                f"The model {exchange.route.group.name!r} has no price, and this tenant is not served"
                " models of unknown price.",
                code="price_unknown",
                param="model",
            )

    async def admit(self, exchange: Exchange) -> None:
        """Reserves the worst case; raises ``LimitExceeded`` and ``Unavailable``, and what an operator
        has decided since the exchange began."""
        controller, route, request = self._controller, exchange.route, exchange.request
        assert route is not None and request is not None and exchange.key is not None
        exchange.admitted_s = controller.now_s()
        exchange.number = controller.number()
        group, terms = route.group, route.terms
        bound = terms.bound(exchange.key.id, group.name, exchange.feature, exchange.user)
        if bound.measured:
            demand = demand_of(request, group)
            if request.max_output_tokens is None and demand.output_tokens:
                request.imposed_cap = group.max_output_tokens
        else:
            demand = rough_demand(request, group, exchange.body_bytes)
        exchange.demand = demand
        if not bound.empty or controller.shared:
            await self._reserve(exchange, terms, bound, demand)

    async def _reserve(self, exchange: Exchange, terms: Terms, bound: Bound, demand: Demand) -> None:
        assert exchange.route is not None
        amount = demand.dearest_nanousd(exchange.route.group)
        note = self._rows.note(exchange, demand, amount) if self._controller.shared else b""
        exchange.reservation = self._controller.reservation(
            terms, bound, exchange.number, demand.tokens, amount, note
        )
        epoch = await self._controller.admit(terms, exchange.reservation)
        exchange.admitted_s = exchange.reservation.charged_at_s(exchange.admitted_s)
        if epoch is not None and self._control.behind(terms.tenant, epoch):
            await self._control.catch_up(terms.tenant, epoch)
            self._control.check(exchange)

    def opened(self, exchange: Exchange, attempt: Attempt, number: int) -> None:
        """Writes an attempt down before it is made; raises ``Unavailable``."""
        assert exchange.demand is not None
        self._rows.opened(exchange, attempt, number, exchange.demand)

    async def cover(self, exchange: Exchange, deployment: Deployment, charged_nanousd: int) -> None:
        """Reserves what an attempt there may cost beside what is charged already; raises
        ``LimitExceeded``."""
        if exchange.reservation is None or exchange.demand is None:
            return
        wanted = charged_nanousd + exchange.demand.cost_nanousd(deployment)
        if not await self._controller.cover(exchange.reservation, wanted):
            raise LimitExceeded(
                "What is left of the budget does not pay for the model that would answer instead.",
                code="budget_exceeded",
                retry_after_s=1,
            )

    def give_back(self, exchange: Exchange) -> None:
        """What was reserved for an exchange that was not admitted after all."""
        if exchange.reservation is not None:
            self._controller.settle(exchange.reservation, 0, 0)

    def settle(self, exchange: Exchange, outcome: Outcome) -> None:
        self._settler.settle(Settlement(exchange, outcome, self._books))


class _Admission(Stage):
    """One exchange's; it is also who pays for its Call."""

    __slots__ = ("_admitted", "_exchange", "_limits")

    def __init__(self, exchange: Exchange, limits: Limits) -> None:
        self._exchange = exchange
        self._limits = limits
        self._admitted = False

    async def enter(self) -> None:
        self._limits.check(self._exchange)
        self._exchange.payer = self
        await self._limits.admit(self._exchange)
        self._admitted = True

    def opened(self, attempt: Attempt, number: int) -> None:
        self._limits.opened(self._exchange, attempt, number)

    async def cover(self, deployment: Deployment, charged_nanousd: int) -> None:
        drain = self._exchange.drain
        if drain is not None and drain.kept:
            raise LimitExceeded("Nobody waits for this answer any more.")
        await self._limits.cover(self._exchange, deployment, charged_nanousd)

    def close(self, outcome: Outcome) -> None:
        exchange, limits = self._exchange, self._limits
        exchange.payer = None
        if not self._admitted:
            limits.give_back(exchange)
        elif exchange.drain is not None and exchange.drain.kept:
            exchange.drain.on_end(lambda: limits.settle(exchange, outcome))
        else:
            limits.settle(exchange, outcome)
