"""The table: medians over the rounds, and how far each number can be trusted."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from .column import Column
from .layout import aligned, markdown
from .measures import HELD_STREAMS, PACED_STREAMS, RATE
from .notes import METHOD, remarks
from .upstream import BURST_CHUNKS, PACED_INTERVAL_S

_FULL = 0.9
_IN_PACE = 0.97
NONE = "–"

Cell = Callable[[Column, Column | None], str]


def table(columns: Sequence[Column], as_markdown: bool) -> str:
    """One column for each gateway that was measured, then the notes."""
    measured = [column for column in columns if column.readings]
    direct = next((c for c in measured if c.peer.name == "direct"), None)
    rows = [["", *[f"{c.title(as_markdown)} {c.version}".strip() for c in measured]]]
    rows += [[label, *[cell(column, direct) for column in measured]] for label, cell in _ROWS]
    notes = [*METHOD, *remarks(columns)]
    return "\n".join([markdown(rows) if as_markdown else aligned(rows), "", *notes])


def line(column: Column) -> str:
    """What the newest round of one gateway said, for the progress."""
    reading = column.readings[-1]
    parts = [
        f"{_number(reading.requests_s)} requests/s",
        f"p50 {_number(reading.p50_us)} µs at {_number(reading.rate)}/s",
        f"{_number(reading.burst_chunks_s)} chunks/s",
    ]
    return ", ".join([*parts, f"{reading.errors} errors"] if reading.errors else parts)


def machine() -> str:
    """CPU, cores, kernel, Python, date."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    model = names[0] if names else platform.machine()
    python = f"Python {platform.python_version()}"
    date = time.strftime("%Y-%m-%d", time.gmtime())
    return f"{model}, {os.cpu_count()} cores, Linux {platform.release()}, {python}, {date}"


def as_json(columns: Sequence[Column], settings: Mapping[str, object]) -> dict[str, object]:
    """Everything that was measured, round by round."""
    found = {
        column.peer.name: {
            "version": column.version,
            "missing": column.missing,
            "rounds": [vars(reading) for reading in column.readings],
        }
        for column in columns
    }
    return {"machine": machine(), "settings": dict(settings), "targets": found}


def _number(value: float | None, digits: int = 0) -> str:
    return NONE if value is None else f"{value:,.{digits}f}"


def _plain(name: str, digits: int = 0) -> Cell:
    return lambda column, _: _number(column.median(name), digits)


def _bounded(name: str, share: str) -> Cell:
    """A rate; ``≥`` where the gateway need not have been what limited it."""

    def cell(column: Column, direct: Column | None) -> str:
        value = column.median(name)
        text = _number(value)
        if value is None or column is direct:
            return text
        most = direct.median(name) if direct else None
        full = (column.median(share) or 0) >= _FULL
        return text if full and most and most >= 2 * value else f"≥ {text}"

    return cell


def _added(name: str) -> Cell:
    """What is added to *direct*, whose own latency stands in brackets."""

    def cell(column: Column, direct: Column | None) -> str:
        value, base = column.median(name), direct.median(name) if direct else None
        if column is direct or value is None or base is None:
            return f"({_number(value)})"
        slow = "‡" if (column.median("rate") or RATE) < RATE else ""
        return f"{_number(value - base)}{slow}"

    return cell


def _paced(column: Column, direct: Column | None) -> str:
    text = _number(column.median("paced_chunk_cpu_us"), 1)
    wanted = PACED_STREAMS / PACED_INTERVAL_S
    kept = (column.median("paced_chunks_s") or 0) >= _IN_PACE * wanted
    return text if kept or text == NONE else f"{text}†"


def _held(name: str, digits: int) -> Cell:
    def cell(column: Column, _: Column | None) -> str:
        held, text = column.median("held"), _number(column.median(name), digits)
        return text if held in (None, HELD_STREAMS) else f"{text} ({_number(held)} open)"

    return cell


def _cores(gateway: str, load: str) -> Cell:
    def cell(column: Column, direct: Column | None) -> str:
        shares = [None if column is direct else column.median(gateway), column.median(load)]
        return " / ".join(NONE if share is None else f"{share:.0%}" for share in shares)

    return cell


def _errors(column: Column, _: Column | None) -> str:
    return str(sum(reading.errors for reading in column.readings))


_ROWS: list[tuple[str, Cell]] = [
    ("requests/s on one core", _bounded("requests_s", "gateway_share")),
    ("CPU µs per request", _plain("request_cpu_us")),
    (f"added latency at {RATE}/s, p50 µs", _added("p50_us")),
    (f"added latency at {RATE}/s, p99 µs", _added("p99_us")),
    (f"streamed chunks/s, {BURST_CHUNKS} sent at once", _bounded("burst_chunks_s", "burst_gateway_share")),
    ("CPU µs per chunk, sent at once", _plain("burst_chunk_cpu_us", 1)),
    ("CPU µs per chunk, sent one by one", _paced),
    (f"KB per open stream ({HELD_STREAMS:,} open)", _held("stream_kb", 1)),
    (f"MB resident with {HELD_STREAMS:,} open", _held("held_mb", 0)),
    ("MB resident at rest", _plain("idle_mb")),
    ("start to first answer, s", _plain("startup_s", 2)),
    ("errors", _errors),
    ("CPU of gateway / load core: requests", _cores("gateway_share", "load_share")),
    ("CPU: chunks sent at once", _cores("burst_gateway_share", "burst_load_share")),
    ("CPU: chunks sent one by one", _cores("paced_gateway_share", "paced_load_share")),
    ("CPU taken by other programs", _cores("gateway_core_others", "load_core_others")),
]
