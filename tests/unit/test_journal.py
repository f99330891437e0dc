from __future__ import annotations

import asyncio
import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.accounting.journal import Journal, WriterLock, WriterLocked, claim_writer, verify
from gateway.errors import Unavailable

ROW = {"request_id": "r-1", "tenant": "acme", "cost_usd": "0.001234500", "usage": {"input": 10}}


class Events:
    """What the journal reported."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, name: str, **fields: Any) -> None:
        self.seen.append((name, fields))

    def names(self) -> list[str]:
        return [name for name, _ in self.seen]


@pytest.fixture
def events() -> Events:
    return Events()


@pytest.fixture
def journal(tmp_path: Path, events: Events) -> Iterator[Journal]:
    journal = Journal(tmp_path, "w", report=events)
    yield journal
    journal.close()


def rows(tmp_path: Path) -> list[dict[str, Any]]:
    files = sorted((tmp_path / "w").glob("*.jsonl"))
    return [orjson.loads(line) for path in files for line in path.read_bytes().splitlines()]


def eventually(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


async def test_rows_are_durable_after_a_flush_and_chained(journal: Journal, tmp_path: Path) -> None:
    for n in range(500):
        journal.append({**ROW, "n": n})
    await journal.flush(5)
    assert journal.waiting_rows == journal.waiting_bytes == 0
    assert [row["n"] for row in rows(tmp_path)] == list(range(500))
    assert [row["seq"] for row in rows(tmp_path)] == list(range(1, 501))
    assert journal.head.seq == 500
    assert verify(tmp_path / "w", journal.head) == []
    (file,) = (tmp_path / "w").glob("*.jsonl")
    assert file.name == time.strftime("%Y-%m-%d.jsonl", time.gmtime())
    assert file.stat().st_mode & 0o777 == 0o600


async def test_a_flush_of_nothing_returns(journal: Journal) -> None:
    await journal.flush(1)


async def test_a_row_is_as_it_was_when_appended(journal: Journal, tmp_path: Path) -> None:
    row: dict[str, Any] = {"tags": {"a": "b"}}
    journal.append(row)
    row["tags"]["a"] = "changed"
    await journal.flush(5)
    assert rows(tmp_path)[0]["tags"] == {"a": "b"}


def test_a_restart_continues_the_chain(tmp_path: Path) -> None:
    for n in range(3):
        journal = Journal(tmp_path, "w")
        journal.append({"n": n})
        assert journal.close() == []
    assert [row["n"] for row in rows(tmp_path)] == [0, 1, 2]
    assert verify(tmp_path / "w", journal.head) == []


async def test_days_roll_over_and_a_clock_set_back_does_not(tmp_path: Path) -> None:
    now = 1_767_225_599.0  # 2025-12-31T23:59:59Z
    journal = Journal(tmp_path, "w", clock=lambda: now)
    for step_s in (0, 2, -86_400, 86_400):
        now += step_s
        journal.append({"at": int(now)})
        await journal.flush(5)
    journal.close()
    names = [path.name for path in sorted((tmp_path / "w").glob("*.jsonl"))]
    assert names == ["2025-12-31.jsonl", "2026-01-01.jsonl"]
    assert verify(tmp_path / "w", journal.head) == []


@pytest.mark.parametrize(
    "row",
    [{"cost": 0.1}, {"x": object()}],
    ids=["float", "object"],
)
def test_floats_and_objects_are_refused(journal: Journal, row: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=r"ledger row|serializable"):
        journal.append(row)
    assert journal.waiting_rows == 0


@pytest.mark.parametrize("name", ["seq", "prev"])
def test_the_chains_own_fields_are_refused(journal: Journal, name: str) -> None:
    with pytest.raises(ValueError, match="journal"):
        journal.append({name: 1})


async def test_odd_values_do_not_lose_a_row(journal: Journal, tmp_path: Path) -> None:
    journal.append({"user": "a\ud800\n", "n": 2**70, "usd": Decimal("1E-9"), "b": [True, 2**70]})
    journal.append({})
    await journal.flush(5)
    row = rows(tmp_path)[0]
    assert row["user"] == "a?\n"
    assert row["n"] == str(2**70)
    assert row["usd"] == "0.000000001"
    assert row["b"] == [True, str(2**70)]
    assert verify(tmp_path / "w", journal.head) == []


class BrokenDisk:
    """Fails writes or syncs with an error number while it is broken; a write lets half through."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, call: str, number: int) -> None:
        self.broken = True
        self._write, self._fsync = os.write, os.fsync
        self._number = number
        monkeypatch.setattr(f"gateway.accounting.day_files.os.{call}", getattr(self, call))

    def write(self, fd: int, content: bytes) -> int:
        if not self.broken:
            return self._write(fd, content)
        if len(content) > 20:
            return self._write(fd, content[: len(content) // 2])
        raise OSError(self._number, os.strerror(self._number))

    def fsync(self, fd: int) -> None:
        if self.broken:
            raise OSError(self._number, os.strerror(self._number))
        self._fsync(fd)


@pytest.mark.parametrize(
    ("call", "number"),
    [("write", errno.ENOSPC), ("write", errno.EIO), ("fsync", errno.EIO), ("fsync", errno.ENOSPC)],
)
async def test_x182_a_failing_disk_stops_admission_and_loses_nothing(
    journal: Journal,
    tmp_path: Path,
    events: Events,
    monkeypatch: pytest.MonkeyPatch,
    call: str,
    number: int,
) -> None:
    journal.append({"n": 0})
    await journal.flush(5)
    disk = BrokenDisk(monkeypatch, call, number)
    journal.append({"n": 1, "pad": "x" * 500})
    eventually(lambda: not journal.healthy)
    assert journal.error is not None and os.strerror(number) in journal.error
    assert not journal.admitting
    journal.append({"n": 2})
    with pytest.raises(Unavailable) as failure:
        await journal.flush(0.05)
    assert failure.value.code == "storage_unavailable"

    disk.broken = False
    await journal.flush(5)
    assert journal.healthy and journal.admitting
    assert [row["n"] for row in rows(tmp_path)] == [0, 1, 2]
    assert verify(tmp_path / "w", journal.head) == []
    assert events.names() == ["ledger_unwritable", "ledger_writable_again"]


async def test_midnight_during_a_failure_leaves_no_torn_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1_767_225_599.0
    journal = Journal(tmp_path, "w", clock=lambda: now)
    disk = BrokenDisk(monkeypatch, "write", errno.ENOSPC)
    journal.append({"n": 1, "pad": "x" * 500})
    eventually(lambda: not journal.healthy)
    now += 10
    disk.broken = False
    await journal.flush(5)
    journal.append({"n": 2})
    await journal.flush(5)
    journal.close()
    assert [row["n"] for row in rows(tmp_path)] == [1, 2]
    assert verify(tmp_path / "w", journal.head) == []


@pytest.mark.parametrize("bound", [{"max_rows": 10}, {"max_bytes": 2_000}], ids=str)
def test_a_full_queue_refuses_and_recovers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bound: dict[str, int]
) -> None:
    disk = BrokenDisk(monkeypatch, "fsync", errno.EIO)
    journal = Journal(tmp_path, "w", **bound)  # type: ignore[arg-type]
    with pytest.raises(Unavailable) as failure:
        for _ in range(100):
            journal.append(ROW)
    assert failure.value.code == "storage_unavailable"
    assert failure.value.status == 503
    kept = journal.waiting_rows
    assert 5 <= kept <= 20
    assert journal.waiting_bytes <= bound.get("max_bytes", 10**9)
    disk.broken = False
    eventually(lambda: journal.waiting_rows == 0)
    journal.append(ROW)
    assert journal.close() == []
    assert len(rows(tmp_path)) == kept + 1


def test_admission_stops_before_the_queue_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path, "w", max_rows=10, commit_interval_s=0.3)
    journal.append(ROW)
    eventually(lambda: journal.waiting_rows == 0)
    for _ in range(5):
        journal.append(ROW)
    assert journal.admitting
    journal.append(ROW)
    assert not journal.admitting and journal.healthy
    journal.close()


async def test_a_disk_that_never_answers_is_unhealthy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.accounting.journal._STALL_S", 0.1)
    real = os.fsync

    def slow(fd: int) -> None:
        time.sleep(0.5)
        real(fd)

    monkeypatch.setattr("gateway.accounting.day_files.os.fsync", slow)
    journal = Journal(tmp_path, "w")
    started = time.perf_counter()
    journal.append(ROW)
    assert time.perf_counter() - started < 0.05
    await asyncio.sleep(0.3)
    assert journal.error is not None and "not answered" in journal.error
    await journal.flush(5)
    assert journal.healthy
    journal.close()


def test_closing_on_a_broken_disk_counts_what_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, events: Events
) -> None:
    BrokenDisk(monkeypatch, "write", errno.ENOSPC)
    journal = Journal(tmp_path, "w", report=events)
    for _ in range(3):
        journal.append(ROW)
    assert [json.loads(row) for row in journal.close(0.5)] == [ROW] * 3
    assert events.seen[-1] == ("ledger_rows_lost", {"level": "error", "rows": 3})
    with pytest.raises(Unavailable):
        journal.append(ROW)


def test_a_torn_end_is_moved_aside(tmp_path: Path, events: Events) -> None:
    journal = Journal(tmp_path, "w")
    journal.append({"n": 1})
    journal.close()
    (file,) = (tmp_path / "w").glob("*.jsonl")
    with file.open("ab") as end:
        end.write(b'{"seq":2,"prev":"abc","n"')
    journal = Journal(tmp_path, "w", report=events)
    journal.append({"n": 2})
    journal.close()
    assert verify(tmp_path / "w", journal.head) == []
    assert [row["n"] for row in rows(tmp_path)] == [1, 2]
    assert file.with_name(file.name + ".torn").read_bytes() == b'{"seq":2,"prev":"abc","n"'
    assert events.names() == ["ledger_torn"]


def test_a_file_without_any_valid_row_leads_to_the_one_before(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "w", clock=lambda: 0.0)
    journal.append({"n": 1})
    journal.close()
    (tmp_path / "w" / "1970-01-02.jsonl").write_bytes(b"\0" * 5000)
    journal = Journal(tmp_path, "w", clock=lambda: 86_400.0)
    journal.append({"n": 2})
    journal.close()
    assert verify(tmp_path / "w", journal.head) == []
    assert journal.head.seq == 2


async def test_a_removed_file_is_noticed(journal: Journal, tmp_path: Path, events: Events) -> None:
    journal.append({"n": 1})
    await journal.flush(5)
    (file,) = (tmp_path / "w").glob("*.jsonl")
    file.unlink()
    journal.append({"n": 2})
    await journal.flush(5)
    assert "ledger_shrunk" in events.names()
    assert [problem.kind for problem in verify(tmp_path / "w", journal.head)] == ["missing"]


def test_a_writer_has_one_process(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "w")
    script = (
        "import sys; from pathlib import Path;"
        "from gateway.accounting.journal import Journal, WriterLocked\n"
        "try: Journal(Path(sys.argv[1]), 'w')\n"
        "except WriterLocked as error: print(error); sys.exit(3)"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    second = subprocess.run(command, capture_output=True, text=True, check=False)
    assert second.returncode == 3, second.stderr
    assert "'w'" in second.stdout and "in use by another process" in second.stdout
    journal.close()
    Journal(tmp_path, "w").close()


@pytest.mark.parametrize("writer", ["", "..", "a/b", "a" * 65, "ä"])
def test_writer_ids_are_plain(tmp_path: Path, writer: str) -> None:
    with pytest.raises(ValueError, match="writer id"):
        WriterLock(tmp_path, writer)


def test_claiming_reuses_the_first_free_writer(tmp_path: Path) -> None:
    first, one = claim_writer(tmp_path)
    second, two = claim_writer(tmp_path)
    assert first != second
    one.release()
    again, three = claim_writer(tmp_path)
    assert again == first
    two.release()
    three.release()
    assert claim_writer(tmp_path)[0] == min(first, second)
    with pytest.raises(WriterLocked):
        WriterLock(tmp_path / "ledger", min(first, second))


_APPENDER = """
import asyncio, sys
from pathlib import Path
from gateway.accounting.journal import Journal

async def main():
    journal = Journal(Path(sys.argv[1]), "w")
    n = 0
    while True:
        for _ in range(200):
            n += 1
            journal.append({"n": n, "pad": "x" * 300})
        await journal.flush(5)
        print(n, flush=True)

asyncio.run(main())
"""


@pytest.mark.parametrize("delay_s", [0.0, 0.003, 0.011, 0.05])
def test_u121_a_killed_process_loses_no_row_that_was_durable(tmp_path: Path, delay_s: float) -> None:
    command = [sys.executable, "-c", _APPENDER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(delay_s)
        process.send_signal(signal.SIGKILL)
        acknowledged = [200, *map(int, process.stdout.read().split())][-1]
    journal = Journal(tmp_path, "w")
    survived = journal.head.seq
    assert survived >= acknowledged
    journal.append({"n": survived + 1})
    assert journal.close() == []
    assert [row["n"] for row in rows(tmp_path)] == list(range(1, survived + 2))
    assert verify(tmp_path / "w", journal.head) == []


_LIMITED = """
import asyncio, resource, sys
from pathlib import Path
from gateway.accounting.journal import Journal

async def main():
    journal = Journal(Path(sys.argv[1]), "w")
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.RLIM_INFINITY))
    for n in range(1, 101):
        journal.append({"n": n, "pad": "x" * 300})
    while journal.healthy:
        await asyncio.sleep(0.01)
    assert "too large" in journal.error, journal.error
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    await journal.flush(5)
    assert journal.healthy
    print(*journal.head)
    journal.close()

asyncio.run(main())
"""


def test_a_file_size_limit_is_survived_once_it_is_lifted(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _LIMITED, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[0] == "100"
    assert [row["n"] for row in rows(tmp_path)] == list(range(1, 101))
    assert verify(tmp_path / "w") == []


def test_appending_is_cheap_for_the_event_loop(tmp_path: Path) -> None:
    row = {f"field_{n}": "value" for n in range(20)} | {"usage": {"input": 1}, "tags": {"a": "b"}}
    journal = Journal(tmp_path, "w")
    started = time.thread_time()
    for _ in range(2_000):
        journal.append(row)
    spent_us = (time.thread_time() - started) / 2_000 * 1e6
    assert journal.close() == []
    assert spent_us < 25  # 3 µs where nothing else runs
