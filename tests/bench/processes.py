"""Child processes of the bench: pinned to a core, measured by the kernel, always ended."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_CPUCLOCK_SCHED = 2
OPEN_FILES = 16384


@dataclass(frozen=True)
class Cores:
    """Who runs where: the fake provider shares ``load`` with the load generator."""

    gateway: int
    load: int

    @classmethod
    def choose(cls) -> Cores:
        """The first two cores that this process may use; one does both jobs where it is alone."""
        free = sorted(os.sched_getaffinity(0))
        return cls(gateway=free[0], load=free[min(1, len(free) - 1)])

    @property
    def shared(self) -> bool:
        return self.gateway == self.load


def raise_open_files() -> int:
    """Allow this process, and what it starts, many sockets; the limit that was reached."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted


def spawn(
    command: Sequence[str],
    *,
    core: int,
    log: Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> subprocess.Popen[str]:
    """Start ``command`` on one core in a session of its own; it dies with this process.

    What it prints goes to ``log``: a pipe that nobody reads would stop it.
    """
    with log.open("ab") as sink:
        return subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            env={**os.environ, **(env or {})},
            cwd=cwd,
            text=True,
            start_new_session=True,
            preexec_fn=_pin_and_bind_to_parent(core),
        )


def _pin_and_bind_to_parent(core: int) -> Callable[[], None]:
    prctl = ctypes.CDLL(None, use_errno=True).prctl

    def before_exec() -> None:
        os.sched_setaffinity(0, {core})
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    return before_exec


def stop(process: subprocess.Popen[str], grace_s: float = 3.0) -> None:
    """End ``process`` and every process it started: asked first, then killed."""
    family = tree(process.pid)
    _signal([process.pid], signal.SIGTERM)
    try:
        process.wait(grace_s)
    except subprocess.TimeoutExpired:
        _signal([process.pid], signal.SIGKILL)
        process.wait()
    _signal(family[1:], signal.SIGKILL)


def _signal(pids: Sequence[int], number: signal.Signals) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def tree(root: int) -> list[int]:
    """``root`` and its living descendants."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (parent := _parent(entry)):
            children.setdefault(parent, []).append(int(entry.name))
    found = [root]
    for pid in found:
        found.extend(children.get(pid, []))
    return found


def _parent(entry: Path) -> int:
    try:
        return int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, IndexError):
        return 0


def cpu_ns(pids: Sequence[int]) -> int:
    """User and system time that these processes have used, from their CPU clocks.

    The clock counts what ``utime + stime`` of ``/proc/<pid>/stat`` do, in nanoseconds instead of
    ticks of 10 ms; its number is made as ``clock_getcpuclockid(3)`` makes it.
    """
    total = 0
    for pid in pids:
        try:
            total += time.clock_gettime_ns((~pid << 3) | _CPUCLOCK_SCHED)
        except OSError:
            continue
    return total


def rss_kb(pids: Sequence[int]) -> int:
    """Resident memory of these processes together; shared pages count in each."""
    total = 0
    for pid in pids:
        try:
            status = Path(f"/proc/{pid}/status").read_text()
        except OSError:
            continue
        total += next((int(x.split()[1]) for x in status.splitlines() if x.startswith("VmRSS")), 0)
    return total


def core_busy_ns(core: int) -> int:
    """Time in which this core was not idle, whoever used it (``/proc/stat``; ticks of 10 ms)."""
    for line in Path("/proc/stat").read_text().splitlines():
        if line.startswith(f"cpu{core} "):
            user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, line.split()[1:9])
            ticks = user + nice + system + irq + softirq + steal
            return ticks * 1_000_000_000 // os.sysconf("SC_CLK_TCK")
    return 0
