"""Admission and settlement: what may begin, and what it has cost when it ends."""

from __future__ import annotations

from gateway.accounting.journal import Journal
from gateway.accounting.settle import Settler
from gateway.accounting.settlement import Settlement
from gateway.errors import Forbidden, Unavailable
from gateway.exchange import Exchange, Outcome
from gateway.stage import Stage
from gateway.telemetry.log import Log
from gateway.telemetry.metrics import Metrics


class Limits:
    """Every exchange that it lets pass has exactly one row in the ledger."""

    def __init__(self, journal: Journal, settler: Settler, log: Log, metrics: Metrics) -> None:
        self._journal = journal
        self._metrics = metrics
        self._settler = settler
        self._log = log

    def begin(self, exchange: Exchange) -> Stage:
        return _Admission(exchange, self)

    def admit(self, exchange: Exchange) -> None:
        """Raises what stands against it; nothing is spent yet."""
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

    def settle(self, exchange: Exchange, outcome: Outcome) -> None:
        self._settler.settle(Settlement(exchange, outcome, self._journal, self._log, self._metrics))


class _Admission(Stage):
    __slots__ = ("_admitted", "_exchange", "_limits")

    def __init__(self, exchange: Exchange, limits: Limits) -> None:
        self._exchange = exchange
        self._limits = limits
        self._admitted = False

    async def enter(self) -> None:
        self._limits.admit(self._exchange)
        self._admitted = True

    def close(self, outcome: Outcome) -> None:
        if self._admitted:
            self._limits.settle(self._exchange, outcome)
