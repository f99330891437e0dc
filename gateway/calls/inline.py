"""Dispatch for Calls that nobody can join: no task, no queue, no copy."""

from __future__ import annotations

from gateway.calls.call import Call
from gateway.exchange import Exchange, Reply


async def dispatch(exchange: Exchange) -> Reply:
    """Opens the Call that answers ``exchange``; the handle exists before anything is awaited."""
    assert exchange.route is not None and exchange.request is not None
    assert exchange.key is not None
    exchange.call = Call(
        exchange.route.group,
        exchange.request,
        exchange.deadline_s,
        any_price=exchange.key.tenant.flag_unpriced,
    )
    return await exchange.call.open()
