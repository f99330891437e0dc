"""The follower with a real journal: totals, recovery, the fleet's store, adoption."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from shutil import rmtree
from typing import Any

import orjson
import pytest

from gateway.accounting.audit import known_heads, verify_writers
from gateway.accounting.chain import Head, verify
from gateway.accounting.follow import Follower
from gateway.accounting.heads import read_heads
from gateway.accounting.journal import Journal
from gateway.accounting.spend import Question
from gateway.accounting.totals import Totals
from gateway.accounting.writer import WriterLock
from gateway.storage.interface import Store, StoreLost
from gateway.storage.memory import Memory, MemoryState
from tests.unit.ledger_rows import NOON_S, Writer, attempt, exchange, rows_of, today

NOW_S = int(time.time())


@pytest.fixture
def tmp_path(tmp_path: Path) -> Path:
    """A folder of the ledger alone: what is kept beside it is no other test's."""
    return tmp_path / "ledger"


class SharedStore(Memory):
    """A store as others see it, too; ``away``: it cannot be asked."""

    shared = True

    def __init__(self, writer: str, state: MemoryState) -> None:
        super().__init__(writer, state)
        self.away = False

    async def get(self, key: str) -> bytes | None:
        self._check()
        return await super().get(key)

    async def fields(self, key: str) -> dict[str, bytes]:
        self._check()
        return await super().fields(key)

    async def put_fields(self, key: str, fields: Any, ttl_s: float) -> None:
        self._check()
        await asyncio.sleep(0)
        self._check()
        await super().put_fields(key, fields, ttl_s)

    def _check(self) -> None:
        if self.away:
            raise StoreLost("away")


class Process:
    """What of a gateway's process matters here. ``events``: what was reported."""

    def __init__(self, ledger: Path, writer: str = "w", store: Store | None = None) -> None:
        self.events: list[str] = []
        self.folder = ledger / writer
        self.journal = Journal(ledger, writer, report=self._report)
        self.follower = Follower(ledger, self.journal, store or Memory(writer), lambda: (), self._report)

    def _report(self, event: str, **fields: Any) -> None:
        self.events.append(event)

    async def write(self, *rows: dict[str, Any]) -> None:
        for row in rows:
            self.journal.append(row)
        await self.follower.catch_up(5.0)

    async def stop(self) -> None:
        await self.follower.aclose()
        assert self.journal.close() == []

    async def crash(self) -> None:
        """Nothing of what is derived is saved."""
        await self.journal.flush(5.0)
        self.follower.totals.close()
        self.journal.close()

    async def total(self, **question: Any) -> str:
        answer = await self.follower.source.spend(Question(**question))
        return str(answer["total_usd"])


def fresh(id: str, **changes: Any) -> dict[str, Any]:
    return exchange(id, **{"admitted": NOW_S, **changes})


async def eventually(condition: Callable[[], Awaitable[object]], within_s: float = 5.0) -> None:
    deadline_s = time.monotonic() + within_s
    while not await condition():
        assert time.monotonic() < deadline_s
        await asyncio.sleep(0.02)


async def test_what_was_written_can_be_asked_for(tmp_path: Path) -> None:
    process = Process(tmp_path)
    await process.write(attempt("1"), fresh("1", nanousd=5), fresh("2", nanousd=7, user="bob"))
    assert await process.total() == "0.000000012"
    assert await process.total(filters={"user": "bob"}) == "0.000000007"
    assert process.follower.totals.charged("acme", user="bob", start_s=NOW_S - 3600) == 7
    (row,) = await process.follower.source.rows("r-1")
    assert (row["kind"], row["writer"], row["cost_usd"]) == ("exchange", "w", "0.000000005")
    assert await process.follower.source.rows("r-3") == [] == await process.follower.source.rows('r-1"')
    await process.stop()


async def test_a_task_reads_without_being_asked(tmp_path: Path) -> None:
    process = Process(tmp_path)
    running = [asyncio.get_running_loop().create_task(process.follower._run())]
    process.journal.append(fresh("1", nanousd=5))
    process.follower.tell()

    async def seen() -> bool:
        return process.follower.totals.charged("acme") == 5

    await eventually(seen)
    await process.stop()
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)


async def test_a_turn_that_is_cut_short_loses_nothing(tmp_path: Path) -> None:
    """Whenever whoever asked gives up in the middle."""
    process = Process(tmp_path, "w", SharedStore("w", MemoryState()))
    for number in range(300):
        process.journal.append(fresh(str(number), nanousd=1, user=f"u{number}"))
    await process.journal.flush(5.0)
    for number in range(60):
        await process.follower.catch_up(0.0002 * number)
    await process.follower.catch_up(5.0)
    assert await process.total() == "0.000000300"
    for number in range(300):
        assert len(await process.follower.source.rows(f"r-{number}")) == 1
    await process.stop()


async def test_a_restart_reads_only_what_is_new(tmp_path: Path) -> None:
    process = Process(tmp_path)
    await process.write(*(fresh(str(number), nanousd=1) for number in range(1200)))
    await process.stop()
    again = Process(tmp_path)
    assert again.follower.totals._saved[0].seq == 1200
    await again.write(fresh("x", nanousd=1))
    assert await again.total() == "0.000001201"
    assert again.follower.totals.charged("acme") == 1201
    await again.stop()


async def test_what_a_crash_left_open_is_ended_once(tmp_path: Path) -> None:
    process = Process(tmp_path)
    await process.write(attempt("1"), attempt("2"), attempt("2", 1), fresh("1"))
    await process.crash()
    again = Process(tmp_path)
    (row,) = again.follower.recovered
    assert row["id"] == "2" and row["recovered"] is True and again.events == ["ledger_recovered"]
    assert again.follower.totals.charged("acme", start_s=NOON_S) == 1_234_500 + 1000
    await again.crash()
    third = Process(tmp_path)
    assert third.follower.recovered == []
    await third.stop()
    assert [one["id"] for one in rows_of(tmp_path / "w")] == ["1", "2"]
    assert verify(tmp_path / "w") == []


async def test_a_recovered_row_has_every_field_of_a_normal_one(tmp_path: Path) -> None:
    process = Process(tmp_path)
    await process.write(attempt("2"), attempt("2", 1))
    await process.crash()
    again = Process(tmp_path)
    (row,) = again.follower.recovered
    assert row.keys() == exchange().keys() | {"recovered"}
    assert row["attempts"] == [
        {"deployment": "chat-1", "outcome": "lost", "status": None},
        {"deployment": "chat-2", "outcome": "lost", "status": None},
    ]
    assert (row["outcome"], row["error_code"], row["cost_source"]) == (
        "error",
        "internal_error",
        "estimated",
    )
    assert row["cost_usd"] == row["charged_usd"] == "0.001234500"
    assert row["usage"] == {"input_tokens": 12, "output_tokens": 100, "cached_input_tokens": 0}
    assert (row["deployment"], row["tags"], row["request_id"]) == ("chat-2", {"team": "x"}, "r-2")
    await again.stop()


async def test_a_damaged_checkpoint_is_thrown_away(tmp_path: Path) -> None:
    process = Process(tmp_path)
    await process.write(attempt("9"), fresh("1", nanousd=5))
    await process.stop()
    checkpoint = tmp_path / "w" / "checkpoint"
    checkpoint.write_bytes(checkpoint.read_bytes()[:-9])
    again = Process(tmp_path)
    assert again.events == ["ledger_read_anew", "ledger_recovered"]
    assert await again.total() == "0.001234505"
    await again.stop()


async def test_a_checkpoint_of_other_files_is_thrown_away(tmp_path: Path) -> None:
    process = Process(tmp_path)
    await process.write(fresh("1", nanousd=5))
    await process.stop()
    file = tmp_path / "w" / f"{today()}.jsonl"
    file.unlink()
    Writer(tmp_path / "w").write([fresh("1", nanousd=7)], today())
    again = Process(tmp_path)
    assert again.events == ["ledger_read_anew", "ledger_cut_off"]
    assert again.follower.totals.charged("acme") == 7
    await again.stop()


def cut(folder: Path, left: int) -> None:
    file = folder / f"{today()}.jsonl"
    file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:left]))


def forgotten(ledger: Path, *names: str) -> None:
    for name in names:
        (ledger / name).unlink()


def told(ledger: Path, heads: dict[str, Head] | None = None) -> list[str]:
    """What ``ledger verify`` says of all writers."""
    return [problem.kind for one in verify_writers(ledger, heads or {}) for problem in one.problems]


@pytest.mark.parametrize("gone", [(), ("w/checkpoint",), ("../heads.json",)])
async def test_a_cut_ledger_is_told_of_for_ever(tmp_path: Path, gone: tuple[str, ...]) -> None:
    process = Process(tmp_path)
    await process.write(attempt("1"), fresh("1", nanousd=5), attempt("2"), fresh("2", nanousd=7))
    await process.write(attempt("3"), fresh("3", nanousd=9))
    known = process.journal.head
    await process.stop()
    cut(tmp_path / "w", 3)
    forgotten(tmp_path, *gone)
    assert told(tmp_path) == ["cut_off"]
    again = Process(tmp_path)
    assert again.events[-2:] == ["ledger_cut_off", "ledger_recovered"]
    assert again.follower.totals.charged("acme", start_s=NOON_S - 30 * 86400) == 5 + 1_234_500
    assert await again.follower.source.rows("r-3") == []
    await again.stop()
    (row,) = rows_of(tmp_path / "w", "break")
    assert (row["seq"], row["found_seq"], row["known_seq"]) == (4, 3, known.seq)
    assert row["known_sha256"] == known.sha256
    assert [one["id"] for one in rows_of(tmp_path / "w")] == ["1", "2"]
    for _ in range(2):
        third = Process(tmp_path)
        await third.write(fresh("4", nanousd=1))
        assert "ledger_cut_off" not in third.events
        await third.stop()
        assert told(tmp_path) == ["cut_off"]
    assert verify(tmp_path / "w") == []


async def test_a_cut_is_told_once_for_each_head(tmp_path: Path) -> None:
    process = Process(tmp_path)
    await process.write(*(fresh(str(number)) for number in range(8)))
    await process.stop()
    cut(tmp_path / "w", 2)
    again = Process(tmp_path)
    await again.crash()  # the checkpoint is still the old one
    third = Process(tmp_path)
    assert "ledger_cut_off" not in third.events
    await third.write(*(fresh(f"n{number}") for number in range(9)))
    await third.stop()
    cut(tmp_path / "w", 5)
    fourth = Process(tmp_path)
    assert fourth.events[-1] == "ledger_cut_off"
    await fourth.stop()
    assert [row["known_seq"] for row in rows_of(tmp_path / "w", "break")] == [8, 12]
    assert told(tmp_path) == ["cut_off", "cut_off"]


async def test_until_a_cut_is_written_down_no_head_is_overwritten(tmp_path: Path) -> None:
    process = Process(tmp_path)
    await process.write(*(fresh(str(number)) for number in range(8)))
    await process.stop()
    before = [(tmp_path / name).read_bytes() for name in ("w/checkpoint", "../heads.json")]
    cut(tmp_path / "w", 2)
    totals = Totals(tmp_path / "w", heads=tmp_path / "../heads.json")
    totals.load()
    while totals.read_on():
        pass
    assert [head.seq for head in totals.end.cut] == [8]
    totals.save()
    totals.close()
    assert [(tmp_path / name).read_bytes() for name in ("w/checkpoint", "../heads.json")] == before


async def test_the_stores_head_is_compared_before_it_is_overwritten(tmp_path: Path) -> None:
    state = MemoryState()
    process = Process(tmp_path, "w", SharedStore("w", state))
    await process.write(*(fresh(str(number)) for number in range(8)))
    known = process.journal.head
    await process.stop()
    cut(tmp_path / "w", 2)
    forgotten(tmp_path, "w/checkpoint", "../heads.json")
    store = SharedStore("w", state)
    store.away = True
    again = Process(tmp_path, "w", store)
    await again.write(*(fresh(f"n{number}") for number in range(10)))
    assert again.events == []
    store.away = False
    await again.follower.catch_up(5.0)
    assert again.events == ["ledger_cut_off"]
    await again.write(fresh("more"))
    await again.stop()
    (row,) = rows_of(tmp_path / "w", "break")
    assert (row["seq"], row["known_seq"], row["known_sha256"]) == (13, *known)
    heads = await known_heads(store)
    assert heads["w"].seq == 14 and told(tmp_path, heads) == ["cut_off"]
    last = Process(tmp_path, "w", store)
    await last.follower.catch_up(5.0)
    assert last.events == []
    await last.stop()


async def test_a_store_elsewhere_is_behind_and_nothing_is_cut(tmp_path: Path) -> None:
    state = MemoryState()
    store = SharedStore("w", state)
    process = Process(tmp_path, "w", store)
    await process.write(fresh("1"))
    store.away = True
    await process.write(fresh("2"))
    await process.crash()
    store.away = False
    again = Process(tmp_path, "w", store)
    await again.follower.catch_up(5.0)
    assert again.events == [] and (await known_heads(store))["w"].seq == 2
    await again.stop()


@pytest.mark.parametrize("known_here", [True, False])
async def test_who_looks_after_a_dead_writer_does_not_hide_a_cut(tmp_path: Path, known_here: bool) -> None:
    state = MemoryState()
    dead = Process(tmp_path, "dead", SharedStore("dead", state))
    await dead.write(*(fresh(str(number)) for number in range(8)))
    await dead.stop()
    cut(tmp_path / "dead", 2)
    if not known_here:
        forgotten(tmp_path, "dead/checkpoint", "../heads.json")
    store = SharedStore("w", state)
    process = Process(tmp_path, "w", store)
    await process.follower._adoption.look()
    assert "cut_off" in told(tmp_path, await known_heads(store))
    await process.stop()
    back = Process(tmp_path, "dead", SharedStore("dead", state))
    await back.follower.catch_up(5.0)
    await back.stop()
    assert told(tmp_path, await known_heads(store)) == ["cut_off"]
    assert [row["known_seq"] for row in rows_of(tmp_path / "dead", "break")] == [8]


async def test_a_folder_that_is_gone_is_missing(tmp_path: Path) -> None:
    for writer in ("v", "w"):
        process = Process(tmp_path, writer)
        await process.write(fresh(writer))
        await process.stop()
    heads = read_heads(tmp_path / "../heads.json")
    elsewhere = {"x": Head(5, "0" * 64)}
    assert heads.keys() == {"v", "w"} and told(tmp_path, heads | elsewhere) == []
    rmtree(tmp_path / "w")
    assert told(tmp_path) == ["missing"]
    rmtree(tmp_path / "v")
    assert told(tmp_path, heads | elsewhere) == ["missing", "missing"]
    forgotten(tmp_path, "../heads.json")
    assert told(tmp_path) == [] and told(tmp_path, heads) == ["missing", "missing"]


async def test_all_writers_folders_answer(tmp_path: Path) -> None:
    Writer(tmp_path / "old").write([fresh("1", nanousd=3)], "2026-01-02")
    Writer(tmp_path / "old").write([fresh("2", nanousd=4)], today())
    process = Process(tmp_path)
    await process.write(fresh("3", nanousd=5))
    assert await process.total() == "0.000000012"
    assert await process.total(from_s=NOW_S - 7200) == "0.000000009"  # by file day: the first is older
    assert [row["writer"] for row in await process.follower.source.rows("r-2")] == ["old"]
    await process.stop()


async def test_a_dead_writers_folder_is_looked_after(tmp_path: Path) -> None:
    Writer(tmp_path / "dead").write([attempt("1"), attempt("2"), fresh("1")], today())
    Writer(tmp_path / "alive").write([attempt("1")], today())
    lock = WriterLock(tmp_path, "alive")
    process = Process(tmp_path)
    await process.follower._adoption.look()
    await process.follower._adoption.look()
    assert [row["id"] for row in rows_of(tmp_path / "dead")] == ["1", "2"]
    assert rows_of(tmp_path / "alive") == [] and verify(tmp_path / "dead") == []
    lock.release()
    await process.follower._adoption.look()
    assert [row["id"] for row in rows_of(tmp_path / "alive")] == ["1"]
    await process.stop()


async def test_the_fleet_hears_of_rows_sums_and_heads(tmp_path: Path) -> None:
    state = MemoryState()
    one = Process(tmp_path / "a", "w1", SharedStore("w1", state))
    two = Process(tmp_path / "b", "w2", SharedStore("w2", state))
    await one.write(attempt("1"), fresh("1", nanousd=5))
    await two.write(fresh("1", nanousd=7))
    for process in (one, two):
        assert await process.total() == "0.000000012"
        rows = await process.follower.source.rows("r-1")
        assert sorted(row["writer"] for row in rows) == ["w1", "w2"]
    heads = await known_heads(SharedStore("x", state))
    assert heads == {"w1": one.journal.head, "w2": two.journal.head}
    await one.write(fresh("2", nanousd=100))
    assert await two.total() == "0.000000112"
    await one.stop()
    await two.stop()


async def test_while_the_store_is_away_nothing_is_lost(tmp_path: Path) -> None:
    state = MemoryState()
    store = SharedStore("w", state)
    process = Process(tmp_path, "w", store)
    await process.write(fresh("1", nanousd=5))
    store.away = True
    await process.write(*(fresh(str(number), nanousd=1) for number in range(2, 700)))
    assert process.follower.totals.charged("acme") == 703
    store.away = False
    await process.follower.catch_up(5.0)
    assert await process.total() == "0.000000703"
    assert len(await process.follower.source.rows("r-699")) == 1
    store.away = True
    await process.write(fresh("again", nanousd=1000))
    await process.stop()
    store.away = False
    again = Process(tmp_path, "w", store)
    await again.follower.catch_up(5.0)
    assert await again.total() == "0.000001703"
    assert len(await again.follower.source.rows("r-again")) == 1
    await again.stop()


async def test_a_store_that_forgot_is_told_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.accounting.fleet.MARK_EVERY_S", 0.0)
    state = MemoryState()
    process = Process(tmp_path, "w", SharedStore("w", state))
    await process.write(fresh("1", nanousd=5))
    state.records._kept.clear()
    assert await process.total() == "0.000000000"
    await process.follower.catch_up(5.0)
    assert await process.total() == "0.000000005"
    assert len(await process.follower.source.rows("r-1")) == 1
    await process.stop()


async def test_a_dead_writers_rows_reach_the_store(tmp_path: Path) -> None:
    Writer(tmp_path / "dead").write([attempt("1", admitted=NOW_S)], today())
    process = Process(tmp_path, "w", SharedStore("w", MemoryState()))
    await process.follower._adoption.look()
    (row,) = await process.follower.source.rows("r-1")
    assert row["recovered"] is True and row["writer"] == "dead"
    assert await process.total() == "0.001234500"
    await process.stop()


async def test_rows_that_are_none_are_told_and_passed_over(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "w")
    writer.write(
        [{"kind": "exchange"}, {"kind": "attempt"}, {"kind": "news"}, fresh("1", nanousd=5)], today()
    )
    with (tmp_path / "w" / f"{today()}.jsonl").open("ab") as file:
        file.write(b"rubbish\n" + orjson.dumps({"seq": "x"}) + b"\n")
    writer.write([fresh("2", nanousd=6)], today())
    process = Process(tmp_path)
    assert "ledger_rows_unreadable" in process.events
    assert process.follower.totals.charged("acme") == 11
    await process.stop()


async def test_what_a_writer_elsewhere_had_open_is_told_until_it_is_back(tmp_path: Path) -> None:
    state = MemoryState()
    process = Process(tmp_path / "a", "w1", SharedStore("w1", state))
    facts = attempt("7", admitted=NOW_S) | {"writer": "w2"}
    for name in ("kind", "n", "time", "deployment", "provider", "price"):
        del facts[name]
    note = orjson.dumps(facts)
    await process.follower.tell_swept(note)
    await process.follower.tell_swept(note)
    await process.follower.tell_swept(b"rubbish")
    (row,) = await process.follower.source.rows("r-7")
    assert row["recovered"] is True and row["writer"] == "w2" and row["charged_usd"] == "0.001234500"
    assert process.events == ["swept_not_told"]
    await process.stop()
    Writer(tmp_path / "b" / "w2").write([attempt("7", admitted=NOW_S)], today())
    back = Process(tmp_path / "b", "w2", SharedStore("w2", state))
    await back.follower.catch_up(5.0)
    (row,) = await back.follower.source.rows("r-7")
    assert row["seq"] == 2
    await back.stop()
