"""How much of each core was used, and by whom, between two moments."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

from . import processes
from .processes import Cores


@dataclass(frozen=True)
class Usage:
    """Shares are of one core, 0..1. ``others`` is what programs outside the bench took."""

    seconds: float
    gateway_cpu_ns: int
    gateway_share: float
    load_share: float
    gateway_core_others: float
    load_core_others: float

    def cpu_us_per(self, count: int) -> float | None:
        """Microseconds of the gateway's CPU for each of ``count``; None where nothing was."""
        return self.gateway_cpu_ns / 1000 / count if count and self.gateway_cpu_ns else None


class Meter:
    """Reads the CPU clocks of the gateway, the fake provider and this process with its children."""

    def __init__(self, cores: Cores, gateway: list[int], provider: int) -> None:
        self._cores = cores
        self._gateway = gateway
        self._provider = provider
        self.start()

    def start(self) -> None:
        """The first moment."""
        self._first = self._read()

    def stop(self) -> None:
        """The second moment."""
        self._second = self._read()

    def _read(self) -> tuple[int, int, int, int, int]:
        spent = os.times()
        own_s = spent.user + spent.system + spent.children_user + spent.children_system
        return (
            time.perf_counter_ns(),
            processes.cpu_ns(self._gateway),
            processes.cpu_ns([self._provider]) + int(own_s * 1e9),
            processes.core_busy_ns(self._cores.gateway),
            processes.core_busy_ns(self._cores.load),
        )

    @property
    def usage(self) -> Usage:
        """What happened between the two moments."""
        wall, gateway, load, gateway_core, load_core = (
            after - before for before, after in zip(self._first, self._second, strict=True)
        )
        return Usage(
            seconds=wall / 1e9,
            gateway_cpu_ns=gateway,
            gateway_share=gateway / wall,
            load_share=load / wall,
            gateway_core_others=max(0.0, (gateway_core - gateway) / wall),
            load_core_others=max(0.0, (load_core - load) / wall),
        )

    def rss_kb(self) -> int:
        """The gateway's resident memory."""
        return processes.rss_kb(self._gateway)

    def wait_until_idle(self, patience_s: float = 10.0) -> None:
        """Return once the gateway hardly works any more: work left over would be counted twice."""
        deadline = time.perf_counter() + patience_s
        while self._gateway and time.perf_counter() < deadline:
            before = processes.cpu_ns(self._gateway)
            time.sleep(0.25)
            if processes.cpu_ns(self._gateway) - before < 0.04 * 0.25e9:
                return
