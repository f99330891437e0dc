"""Rows and folders of a ledger, as a gateway writes them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import orjson

from gateway.accounting.chain import GENESIS, Head, link
from gateway.accounting.money import format_usd

NOON_S = 1795262400
"""2026-11-21T12:00:00Z"""


def attempt(id: str, n: int = 0, **changes: Any) -> dict[str, Any]:
    row: dict[str, Any] = {
        "kind": "attempt",
        "id": id,
        "n": n,
        "time": "2026-11-21T12:00:00.000Z",
        "deployment": f"chat-{n + 1}",
        "provider": "fake",
    }
    if n == 0:
        row |= {
            "request_id": f"r-{id}",
            "admitted": NOON_S,
            "tenant": "acme",
            "key": "ci",
            "feature": "search",
            "user": "ann",
            "tags": {"team": "x"},
            "operation": "chat",
            "model": "chat",
            "input_tokens": 12,
            "output_tokens": 100,
            "reserved_usd": "0.001234500",
            "price": None,
        }
    return row | changes


def exchange(
    id: str = "1", *, nanousd: int = 1000, charged: int | None = None, **changes: Any
) -> dict[str, Any]:
    row: dict[str, Any] = {
        "kind": "exchange",
        "id": id,
        "request_id": f"r-{id}",
        "time": "2026-11-21T12:00:01.000Z",
        "admitted": NOON_S,
        "tenant": "acme",
        "key": "ci",
        "feature": "search",
        "user": "ann",
        "tags": {},
        "operation": "chat",
        "model": "chat",
        "outcome": "ok",
        "degraded": None,
        "error_code": None,
        "deployment": "chat-1",
        "provider": "fake",
        "attempts": [{"deployment": "chat-1", "outcome": "ok", "status": 200}],
        "joins": [],
        "usage": {"input_tokens": 10, "output_tokens": 20, "cached_input_tokens": 3},
        "cost_usd": format_usd(nanousd),
        "charged_usd": format_usd(nanousd if charged is None else charged),
        "cost_source": "provider",
        "price": None,
    }
    return row | changes


class Writer:
    """Appends rows to a folder's day files, chained, as a journal does."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.head: Head = GENESIS
        folder.mkdir(parents=True, exist_ok=True)

    def write(self, rows: Iterable[Mapping[str, Any]], day: str = "2026-11-21") -> None:
        with (self.folder / f"{day}.jsonl").open("ab") as file:
            for row in rows:
                self.head, line = link(self.head, orjson.dumps(row))
                file.write(line)


def today() -> str:
    return time.strftime("%Y-%m-%d", time.gmtime())


def rows_of(folder: Path, kind: str = "exchange") -> list[dict[str, Any]]:
    lines = [line for path in sorted(folder.glob("*.jsonl")) for line in path.read_bytes().splitlines()]
    rows: list[dict[str, Any]] = [orjson.loads(line) for line in lines]
    return [row for row in rows if row["kind"] == kind]
