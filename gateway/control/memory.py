"""How close the process is to the memory that it may have, and what is given up on the way there."""

from __future__ import annotations

import asyncio
import ctypes
import os
from collections.abc import Callable
from enum import IntEnum
from pathlib import Path

from gateway.errors import Unavailable

CHECK_S = 1.0
RECOVERY = 0.03
"""A rung is left when use has fallen by this share of the limit below it."""
_NO_LIMIT = 1 << 60
_CGROUPS = Path("/sys/fs/cgroup")
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Pressure(IntEnum):
    """SHED: new requests are refused. CLOSE: connections end with their answer, too. REFUSE: new
    connections are turned away."""

    NONE = 0
    SHED = 1
    CLOSE = 2
    REFUSE = 3


RUNGS = {Pressure.SHED: 0.85, Pressure.CLOSE: 0.92, Pressure.REFUSE: 0.95}
"""Shares of the limit at which they begin."""


class Memory:
    """``limit``: bytes, None for none. ``changed`` hears of every step up or down."""

    __slots__ = ("_changed", "limit", "pressure")

    def __init__(self, limit: int | None, changed: Callable[[Pressure], None]) -> None:
        self.limit = limit
        self.pressure = Pressure.NONE
        self._changed = changed

    def observe(self, used: int) -> None:
        """``used``: bytes."""
        before, self.pressure = self.pressure, self._rung(used)
        if self.pressure is not before:
            self._changed(self.pressure)

    def admit(self) -> None:
        """Raises ``Unavailable`` while new requests are refused."""
        if self.pressure:
            raise Unavailable("The gateway is short of memory at the moment.", retry_after_s=5)

    def _rung(self, used: int) -> Pressure:
        if self.limit is None:
            return Pressure.NONE
        share = used / self.limit
        held = [rung for rung, at in RUNGS.items() if share >= at - RECOVERY * (rung <= self.pressure)]
        return max(held, default=Pressure.NONE)


async def watch(memory: Memory) -> None:
    """Looks every second, for ever. Under pressure, what the allocator holds on to goes back."""
    while True:
        memory.observe(used_bytes())
        if memory.pressure:
            await asyncio.to_thread(_trim)
        await asyncio.sleep(CHECK_S)


def used_bytes() -> int:
    """Resident memory of this process; 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE
    except (OSError, IndexError, ValueError):
        return 0


def limit_bytes(
    own: Path = Path("/proc/self/cgroup"), root: Path = _CGROUPS, *, processes: int = 1
) -> int | None:
    """The least that the process's control groups allow (version 2 or 1), shared by so many processes; None
    where none does."""
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return None
    found = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            found += _limits(root, path, "memory.max")
        elif "memory" in controllers.split(","):
            found += _limits(root / "memory", path, "memory.limit_in_bytes")
    return min(found) // processes if found else None


def _limits(root: Path, path: str, name: str) -> list[int]:
    """Of a group and those that it is in; what a container shows of them is enough."""
    group = root / path.strip("/")
    texts = [_text(folder / name) for folder in (group, *group.parents) if folder.is_relative_to(root)]
    limits = [int(text) for text in texts if text.isdigit()]
    return [limit for limit in limits if 0 < limit < _NO_LIMIT]


def _text(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""


def _trim() -> None:
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:  # glibc's
        trim(0)
