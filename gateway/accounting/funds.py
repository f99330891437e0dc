"""What a ledger says was spent of a budget."""

from __future__ import annotations

from gateway.accounting.totals import Totals
from gateway.storage.interface import Fund


def charged_of(totals: Totals, tenant: str, fund: Fund) -> int:
    """Nano-dollars that the writer of ``totals`` has spent of ``fund``; its name tells the scope."""
    kind, _, name = fund.name.rpartition(".")[0].partition(":")
    key, feature, user = (name if kind == one else None for one in ("k", "f", "u"))
    return totals.charged(tenant, key, feature, user, start_s=fund.start_s, end_s=fund.end_s)
