"""A detection with real children, and what it says."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from gateway.detection.detection import Detection
from gateway.privacy.policy import DetectorSpec
from gateway.tasks import Tasks

FAST = DetectorSpec("fast", ("EMAIL_ADDRESS", "PHONE_NUMBER", "CREDIT_CARD"), phone_regions=("US", "DE"))
MAIL_ONLY = DetectorSpec("fast", ("EMAIL_ADDRESS",), deny=("Project Blue Moon",))
PRESIDIO = DetectorSpec("presidio", ("EMAIL_ADDRESS", "US_SSN", "IBAN_CODE"), scan="all")

SLOW = "order 1234567890123 of 2024-05-05, "
"""Looks like much, and is nothing: about 400 µs a KiB."""
LINE = "Write to jo.doe@example.com today. "


def of_size(line: str, chars: int) -> str:
    return (line * (chars // len(line) + 1))[:chars]


class Rigged:
    """``told``: the events, with their fields. ``faults``: of tasks, none in any test."""

    def __init__(self, processes: int) -> None:
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.faults: list[Any] = []
        self.tasks = Tasks(lambda *fault: self.faults.append(fault))
        self.detection = Detection(self.tasks.keep, self._event, processes)

    def events(self, name: str) -> list[dict[str, Any]]:
        return [fields for event, fields in self.told if event == name]

    async def pid(self, number: int = 1) -> int:
        """Of the child that became ready as the ``number``-th."""
        await until(lambda: len(self.events("detection_ready")) >= number)
        pid: int = self.events("detection_ready")[number - 1]["pid"]
        return pid

    def _event(self, name: str, **fields: Any) -> None:
        self.told.append((name, fields))


@asynccontextmanager
async def detecting(specs: Iterable[DetectorSpec] = (FAST,), processes: int = 1) -> AsyncIterator[Rigged]:
    rigged = Rigged(processes)
    rigged.detection.adopt(specs)
    await rigged.detection.start(0)
    try:
        yield rigged
    finally:
        await rigged.detection.aclose()
        await rigged.tasks.close()
        assert not rigged.faults, repr(rigged.faults)


async def until(met: Callable[[], bool], within_s: float = 20) -> None:
    ends = time.monotonic() + within_s
    while not met():
        assert time.monotonic() < ends
        await asyncio.sleep(0.005)


def state_of(pid: int) -> str:
    """One letter, as in proc(5); empty when there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


async def stop(pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)
    await until(lambda: state_of(pid) == "T")
