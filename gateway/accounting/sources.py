"""Where sums and rows are looked up: in the folders of all writers here, or in the store of the fleet."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import orjson

from gateway.accounting.chain import list_days
from gateway.accounting.day_sums import day_groups, day_redactions, list_sum_days
from gateway.accounting.fleet import ROW_DAYS, SUM_DAYS, redactions_key, rows_key, sums_key, writers_key
from gateway.accounting.redaction_report import RedactionAnswer
from gateway.accounting.redactions import decode_redaction_group
from gateway.accounting.spend import Answer, Question
from gateway.accounting.sums import AnyGroup, Numbers, day_of, decode_group
from gateway.accounting.totals import Totals
from gateway.errors import Unavailable
from gateway.storage.interface import Records, StoreLost

_DAY_S = 86400
_CHUNK_BYTES = 1 << 18
_CACHED_GROUPS = 100_000
_AT_ONCE = 200
_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")

_AnyGroup = TypeVar("_AnyGroup", bound=AnyGroup)


class Source(Protocol):
    async def spend(self, question: Question) -> dict[str, Any]:
        """As the admin API answers. Raises ``Unavailable``."""
        ...

    async def redactions(self, question: Question) -> dict[str, Any]:
        """As the admin API answers. Raises ``Unavailable``."""
        ...

    async def rows(self, request_id: str) -> list[dict[str, Any]]:
        """The ended exchanges of that id, oldest first. Raises ``Unavailable``."""
        ...


class _Days(Generic[_AnyGroup]):
    """One kind of sums of the days that are read in no totals just now, kept as long as all that is kept
    stays small."""

    def __init__(self, read: Callable[[Path], dict[_AnyGroup, Numbers]]) -> None:
        self._read = read
        self._cached: dict[Path, tuple[int, dict[_AnyGroup, Numbers]]] = {}

    def of(self, path: Path) -> dict[_AnyGroup, Numbers]:
        try:
            size = path.stat().st_size if path.exists() else -1
            cached = self._cached.get(path)
            if cached is None or cached[0] != size:
                cached = (size, self._read(path))
                self._keep(path, cached)
            return cached[1]
        except FileNotFoundError:  # archived meanwhile
            return {}

    def _keep(self, path: Path, day: tuple[int, dict[_AnyGroup, Numbers]]) -> None:
        self._cached.pop(path, None)
        self._cached[path] = day
        while sum(len(groups) for _, groups in self._cached.values()) > _CACHED_GROUPS:
            del self._cached[next(iter(self._cached))]


class Folders:
    """All writers under ``ledger``, those included that no process is any more; ``own``: the totals of
    this one."""

    def __init__(self, ledger: Path, own: Totals) -> None:
        self._ledger, self._own = ledger, own
        self._groups, self._redactions = _Days(day_groups), _Days(day_redactions)

    async def spend(self, question: Question) -> dict[str, Any]:
        answer = Answer(question)
        await asyncio.to_thread(self._add, answer.add, question, self._own.current, self._groups)
        return answer.as_dict()

    async def redactions(self, question: Question) -> dict[str, Any]:
        answer, current = RedactionAnswer(question), self._own.current_redactions
        await asyncio.to_thread(self._add, answer.add, question, current, self._redactions)
        return answer.as_dict()

    async def rows(self, request_id: str) -> list[dict[str, Any]]:
        return await asyncio.to_thread(self._rows, request_id)

    def _add(
        self,
        add: Callable[[Iterable[tuple[_AnyGroup, Numbers]]], None],
        question: Question,
        current: Callable[[], tuple[str, list[tuple[_AnyGroup, Numbers]]]],
        days: _Days[_AnyGroup],
    ) -> None:
        first = _first_day(question)
        for folder in sorted(self._ledger.glob("*/")):
            read = ""
            if folder.name == self._own.folder.name:
                read, sums = current()
                add(_gently(sums))
            for path in list_sum_days(folder):
                if path.stem >= first and path.stem != read:
                    add(_gently(days.of(path).items()))

    def _rows(self, request_id: str) -> list[dict[str, Any]]:
        if not _ID.fullmatch(request_id):
            return []
        since = day_of(int(time.time()) - ROW_DAYS * _DAY_S)
        needle = b'"request_id":"%b"' % request_id.encode()
        found = []
        for folder in sorted(self._ledger.glob("*/")):
            for path in list_days(folder):
                if path.stem >= since:
                    rows = (row for row in _search(path, needle) if row.get("kind") == "exchange")
                    found += [{**row, "writer": folder.name} for row in rows]
        return sorted(found, key=_time)


class FleetStore:
    """What all writers have told the store."""

    def __init__(self, records: Records) -> None:
        self._records = records

    async def spend(self, question: Question) -> dict[str, Any]:
        answer = Answer(question)
        await self._add(answer.add, question, sums_key, decode_group)
        return answer.as_dict()

    async def redactions(self, question: Question) -> dict[str, Any]:
        answer = RedactionAnswer(question)
        await self._add(answer.add, question, redactions_key, decode_redaction_group)
        return answer.as_dict()

    async def _add(
        self,
        add: Callable[[Iterable[tuple[_AnyGroup, Numbers]]], None],
        question: Question,
        key: Callable[[str, str], str],
        decode: Callable[[Any], _AnyGroup],
    ) -> None:
        try:
            for day in _days(question):
                for writer in await self._records.fields(writers_key(day)):
                    fields = await self._records.fields(key(day, writer))
                    if fields:
                        await asyncio.to_thread(add, _gently(_decoded(fields, decode)))
        except StoreLost as lost:
            raise _away(lost) from None

    async def rows(self, request_id: str) -> list[dict[str, Any]]:
        if not _ID.fullmatch(request_id):
            return []
        try:
            fields = await self._records.fields(rows_key(request_id))
        except StoreLost as lost:
            raise _away(lost) from None
        named = ((name.partition("/")[0], orjson.loads(text)) for name, text in fields.items())
        return sorted(({**row, "writer": writer} for writer, row in named), key=_time)


def _gently(sums: Iterable[tuple[_AnyGroup, Numbers]]) -> Iterator[tuple[_AnyGroup, Numbers]]:
    """Lets the loop have the interpreter every now and then."""
    for number, one in enumerate(sums, 1):
        if number % _AT_ONCE == 0:
            time.sleep(0)
        yield one


def _decoded(
    fields: dict[str, bytes], decode: Callable[[Any], _AnyGroup]
) -> Iterator[tuple[_AnyGroup, Numbers]]:
    for group, numbers in fields.items():
        yield decode(orjson.loads(group)), orjson.loads(numbers)


def _first_day(question: Question) -> str:
    """The first day file that may hold an answer: clocks may disagree by less than a day."""
    return "" if question.from_s is None else day_of(max(question.from_s - _DAY_S, 0))


def _days(question: Question) -> list[str]:
    """The day files that may hold an answer: whatever was admitted ends then or later."""
    now_s = int(time.time())
    kept = [day_of(now_s - age * _DAY_S) for age in range(SUM_DAYS, -2, -1)]
    first = _first_day(question)
    return [day for day in kept if day >= first]


def _search(path: Path, needle: bytes) -> Iterator[dict[str, Any]]:
    """The rows that hold ``needle``, read in parts so that other threads come to their turn."""
    rest = b""
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                chunk = rest + chunk
                whole = chunk.rfind(b"\n") + 1
                yield from _matching(chunk, needle, whole)
                rest = chunk[whole:]
    except FileNotFoundError:
        return


def _matching(chunk: bytes, needle: bytes, end: int) -> Iterator[dict[str, Any]]:
    place = chunk.find(needle, 0, end)
    while place >= 0:
        start, stop = chunk.rfind(b"\n", 0, place) + 1, chunk.index(b"\n", place)
        try:
            row = orjson.loads(chunk[start:stop])
        except orjson.JSONDecodeError:
            row = None
        if isinstance(row, dict):
            yield row
        place = chunk.find(needle, stop, end)


def _time(row: dict[str, Any]) -> str:
    return str(row.get("time", ""))


def _away(lost: StoreLost) -> Unavailable:
    return Unavailable(
        "The store cannot be asked; try again in a moment.",
        code="storage_unavailable",
        retry_after_s=1,
        detail=str(lost),
    )
