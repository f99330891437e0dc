"""Dispatch for Calls that nobody can join: no task, no queue, no copy, unless one may outlive its
client."""

from __future__ import annotations

from gateway.calls.call import Call
from gateway.calls.drain import Drain, Drains
from gateway.exchange import Exchange, Reply


class Dispatcher:
    """``drains``: where answers go on whose client has left, for tenants that want it so."""

    def __init__(self, drains: Drains) -> None:
        self.drains = drains

    async def __call__(self, exchange: Exchange) -> Reply:
        """Opens the Call that answers ``exchange``; the handle exists before anything is awaited."""
        assert exchange.route is not None and exchange.request is not None
        assert exchange.key is not None
        exchange.call = call = Call(
            exchange.route.group,
            exchange.request,
            exchange.deadline_s,
            any_price=exchange.key.tenant.flag_unpriced,
            payer=exchange.payer,
        )
        if not exchange.route.terms.drain:
            return await call.open()
        exchange.drain = Drain(call, self.drains)
        return await exchange.drain.open()
