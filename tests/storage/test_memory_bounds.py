"""Values of one process are bounded: those that were put first go first."""

from __future__ import annotations

import pytest

from gateway.storage import memory_records
from gateway.storage.memory_records import MemoryRecords


def test_the_oldest_values_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_records, "MOST_BYTES", 1000)
    records = MemoryRecords()
    records.put("kept", b"k" * 300, 0)
    records.put_fields("hash", {"a": b"x" * 5000}, 60)
    for number in range(10):
        records.put(f"v{number}", b"v" * 300, 60)
    left = [number for number in range(10) if records.get(f"v{number}")]
    assert len(left) == 2 and 9 in left
    assert records.get("kept") and records.fields("hash")


def test_a_value_that_is_replaced_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_records, "MOST_BYTES", 1000)
    records = MemoryRecords()
    records.put("other", b"o" * 300, 60)
    for _ in range(100):
        records.put("same", b"s" * 300, 60)
        records.drop("gone")
    assert records.get("other") and records.get("same")
