"""The sums of a finished day, in a file beside it: ``sums-<day>``, made anew where it is absent."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import orjson

from gateway.accounting.chain import list_days
from gateway.accounting.redactions import NEEDLE, RedactionGroup, decode_redactions, redactions_of
from gateway.accounting.snapshot_file import in_lines, read_snapshot, write_snapshot
from gateway.accounting.sums import MOST_GROUPS, Group, Numbers, Sums, decode_group, encode_groups, entry_of

VERSION = 1


class DaySums(NamedTuple):
    """``seq`` and ``sha256``: of the last row up to the day's end; ``open``: the exchanges that were open
    then, each as its ``attempt`` rows. ``redactions``: None where a former version made the sums."""

    groups: dict[Group, Numbers]
    seq: int
    sha256: str
    open: list[list[dict[str, Any]]]
    redactions: dict[RedactionGroup, Numbers] | None


def sums_file(folder: Path, day: str) -> Path:
    return folder / f"sums-{day}"


def write_day_sums(folder: Path, day: str, sums: DaySums) -> None:
    """Raises ``OSError``."""
    size = (folder / f"{day}.jsonl").stat().st_size
    header = {
        "version": VERSION,
        "bytes": size,
        "seq": sums.seq,
        "sha256": sums.sha256,
        "redactions": list(encode_groups(sums.redactions or {})),  # former versions pass over it here alone
    }
    parts = (in_lines("groups", encode_groups(sums.groups)), in_lines("open", sums.open))
    write_snapshot(sums_file(folder, day), [header, *(line for part in parts for line in part)])


def read_day_sums(path: Path) -> DaySums | None:
    """``path``: the day's file. None where there are no sums that fit it; sums whose day was archived
    stand for it."""
    lines = read_snapshot(sums_file(path.parent, path.stem))
    try:
        if not lines or lines[0]["version"] != VERSION:
            return None
        if path.exists() and lines[0]["bytes"] != path.stat().st_size:
            return None
        groups, still_open = {}, []
        for name, entries in lines[1:]:
            if name == "groups":
                groups.update({decode_group(fields): numbers for fields, numbers in entries})
            else:
                still_open += entries
        found = lines[0].get("redactions")
        redactions = None if found is None else decode_redactions(found)
        return DaySums(groups, lines[0]["seq"], lines[0]["sha256"], still_open, redactions)
    except (OSError, KeyError, TypeError, ValueError):
        return None


def day_groups(path: Path, most_groups: int = MOST_GROUPS) -> dict[Group, Numbers]:
    """The day's sums from beside the file or, where there are none, from its rows."""
    day = read_day_sums(path)
    if day is not None:
        return day.groups
    sums = Sums(most_groups)
    with path.open("rb") as file:
        for line in file:
            try:
                row = orjson.loads(line)
                if row["kind"] == "exchange":
                    sums.add(*entry_of(row))
            except (KeyError, TypeError, ValueError, AttributeError):
                continue  # `ledger verify` tells of it
    return sums.groups


def day_redactions(path: Path) -> dict[RedactionGroup, Numbers]:
    """As ``day_groups``; nothing where the rows were archived and their sums are a former version's."""
    day = read_day_sums(path)
    return read_redactions(path) if day is None or day.redactions is None else day.redactions


def read_redactions(path: Path, end: int | None = None) -> dict[RedactionGroup, Numbers]:
    """Those of the day's rows up to the byte ``end``. Raises ``OSError``."""
    sums, place = Sums(), 0
    if not path.exists():
        return {}
    with path.open("rb") as file:
        for line in file:
            if end is not None and place >= end:
                break
            place += len(line)
            if NEEDLE in line:
                _add_redactions(sums, line)
    return sums.redactions


def _add_redactions(sums: Sums, line: bytes) -> None:
    try:
        row = orjson.loads(line)
        if row["kind"] == "exchange":
            sums.add_redactions(*redactions_of(row, entry_of(row)[0].hour))
    except (KeyError, TypeError, ValueError, AttributeError):
        return  # `ledger verify` tells of it


def list_sum_days(folder: Path) -> list[Path]:
    """The day files of a writer, oldest first, those included of which only the sums are left."""
    days = {path.name.removeprefix("sums-") for path in folder.glob("sums-????-??-??")}
    return sorted({folder / f"{day}.jsonl" for day in days} | set(list_days(folder)))
