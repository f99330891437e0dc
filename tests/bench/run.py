"""`python -m tests.bench.run`: this gateway beside others, in one run on one machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from . import closed_loop, processes
from .column import Column
from .measures import Bench, Reading
from .options import HOME, Options, parse
from .peers import NotInstalled, all_peers
from .processes import Cores
from .report import as_json, line, machine, table
from .running import DidNotStart, started, upstream

# No round begins that would probably end later than this.
_LIMIT_S = 570.0
# A gateway whose memory takes longer than this to measure is measured once, not every round.
_SLOW_S = 12.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; 1 if this gateway could not be measured, or nothing could be."""
    options = parse(arguments)
    if not closed_loop.available():
        _say("wrk makes the load and is not here; install it (Debian: apt-get install wrk)")
        return 1
    cores = Cores.choose()
    os.sched_setaffinity(0, {cores.load})
    processes.raise_open_files()
    if cores.shared:
        _say("only one core here: gateway and load share it, the numbers mean little")
    columns = _columns(options.only)
    try:
        rounds = _rounds(columns, options, cores)
    except KeyboardInterrupt:
        _say("stopped")
        return 130
    _publish(columns, options, rounds)
    wanted = [c for c in columns if c.peer.name == "gateway"] or columns
    return 0 if all(column.readings for column in wanted) else 1


def _columns(only: Sequence[str]) -> list[Column]:
    """The chosen gateways, installed; *direct* is always among them, as the base of the others."""
    HOME.mkdir(exist_ok=True)
    chosen = [p for p in all_peers() if not only or p.name == "direct" or p.name in only]
    columns = [Column(peer) for peer in chosen]
    for column in columns:
        try:
            column.version = column.peer.install(HOME, _say)
            _say(f"{column.peer.name} {column.version}".strip())
        except NotInstalled as error:
            column.missing = f"not installed: {error}"
            _say(f"{column.peer.name}: {column.missing}")
    return columns


def _rounds(columns: Sequence[Column], options: Options, cores: Cores) -> int:
    """Measure; how many rounds there was time for."""
    begin = time.monotonic()
    slow: set[str] = set()
    for number in range(1, options.rounds + 1):
        spent = time.monotonic() - begin
        if number > 1 and spent * number / (number - 1) > _LIMIT_S:
            _say(f"no time for round {number}: {spent:.0f} s are gone, {_LIMIT_S:.0f} s is the limit")
            return number - 1
        for column in columns:
            if not column.missing:
                _say(f"round {number}/{options.rounds}  {column.peer.name} …")
                _one(column, options, cores, slow)
    _say(f"measured for {time.monotonic() - begin:.0f} s")
    return options.rounds


def _one(column: Column, options: Options, cores: Cores, slow: set[str]) -> None:
    """One gateway, one round: speed, and memory on a fresh process."""
    name, begin = column.peer.name, time.monotonic()
    try:
        reading = _measure(column, options, cores, Bench.speed)
        column.readings.append(reading)
        between = time.monotonic()
        if name != "direct" and name not in slow:
            _add_memory(reading, _measure(column, options, cores, Bench.memory))
        if time.monotonic() - between > _SLOW_S:
            slow.add(name)
        _say(f"           {line(column)} ({time.monotonic() - begin:.0f} s)")
    except (DidNotStart, OSError, subprocess.SubprocessError) as error:
        column.missing = f"failed: {error}"
        _say(f"{name}: {column.missing}")


def _measure(column: Column, options: Options, cores: Cores, what: Callable[[Bench], None]) -> Reading:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        port, pid = stack.enter_context(upstream(cores, folder, sys.executable))
        running = stack.enter_context(started(column.peer, cores, folder, port))
        bench = Bench(running, cores, pid, folder, options.seconds)
        what(bench)
        return bench.reading


def _add_memory(reading: Reading, memory: Reading) -> None:
    reading.idle_mb = memory.idle_mb
    reading.held, reading.held_mb, reading.stream_kb = memory.held, memory.held_mb, memory.stream_kb
    reading.errors += memory.errors
    reading.remarks += memory.remarks


def _publish(columns: Sequence[Column], options: Options, rounds: int) -> None:
    settings = {"rounds": rounds, "seconds": options.seconds}
    options.json.write_text(json.dumps(as_json(columns, settings), indent=1))
    print(table(columns, options.markdown))
    print(f"\nMachine: {machine()}; medians of {rounds} interleaved rounds.")
    _say(f"every round's numbers: {options.json}")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
