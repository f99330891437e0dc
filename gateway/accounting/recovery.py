"""What a crash left open: attempts without an end, and the rows that end them."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from gateway.accounting.money import format_usd
from gateway.accounting.redactions import FIELD
from gateway.telemetry.timestamp import Timestamp


class OpenExchanges:
    """Follows ``attempt`` and ``exchange`` rows; holds what has begun and not ended, by id."""

    def __init__(self) -> None:
        self._open: dict[str, list[dict[str, Any]]] = {}

    def __len__(self) -> int:
        return len(self._open)

    def begin(self, row: dict[str, Any]) -> None:
        """An ``attempt`` row. Raises ``KeyError`` or ``TypeError`` for what is none."""
        if row["n"] == 0:
            self._open[row["id"]] = [row]
        elif (attempts := self._open.get(row["id"])) is not None:
            attempts.append(row)

    def end(self, row: dict[str, Any]) -> None:
        """An ``exchange`` row."""
        self._open.pop(row.get("id", ""), None)

    def encode(self) -> Iterable[list[dict[str, Any]]]:
        return self._open.values()

    def decode(self, entries: Iterable[list[dict[str, Any]]]) -> None:
        """Takes over what ``encode`` gave. Raises ``KeyError``, ``TypeError`` or ``IndexError``."""
        for attempts in entries:
            self._open[attempts[0]["id"]] = attempts

    def recovered(self, now_s: float | None = None) -> list[dict[str, Any]]:
        """The rows that end all that is open: the worst case counts, for nobody knows what was billed."""
        now_s = time.time() if now_s is None else now_s
        return [recovered_row(attempts, now_s) for attempts in self._open.values()]


def recovered_row(attempts: list[dict[str, Any]], now_s: float) -> dict[str, Any]:
    """The row that ends an exchange of which these ``attempt`` rows are known."""
    first, last = attempts[0], attempts[-1]
    reserved = first.get("reserved_usd") or format_usd(0)
    redactions = {FIELD: first[FIELD]} if FIELD in first else {}
    return {
        "kind": "exchange",
        "id": first["id"],
        "request_id": first.get("request_id", ""),
        "time": Timestamp()(now_s),
        "admitted": first.get("admitted", 0),
        "tenant": first.get("tenant", ""),
        "key": first.get("key", ""),
        "feature": first.get("feature", ""),
        "user": first.get("user", ""),
        "tags": first.get("tags") or {},
        "operation": first.get("operation", ""),
        "model": first.get("model", ""),
        "outcome": "error",
        "degraded": None,
        "error_code": "internal_error",
        "deployment": last.get("deployment"),
        "provider": last.get("provider"),
        "attempts": [
            {"deployment": one.get("deployment"), "outcome": "lost", "status": None} for one in attempts
        ],
        "joins": [],
        "usage": {
            "input_tokens": first.get("input_tokens", 0),
            "output_tokens": first.get("output_tokens", 0),
            "cached_input_tokens": 0,
        },
        "cost_usd": reserved,
        "charged_usd": reserved,
        "cost_source": "estimated",
        "price": first.get("price"),
        "recovered": True,
        **redactions,
    }
