"""``python -m tests.faults``: the fault matrix as a table; ``--storm``: a minute of a provider that is
down and comes back, alone and beside a healthy one; ``--overload``: more load than can be carried. Exit
code 1 if anything was seen that must not be."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

import uvloop

from tests.faults import matrix, overload, storm, table


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--storm", action="store_true", help="the retry storm instead (2 x 60 s)")
    parser.add_argument("--overload", action="store_true", help="three times the peak load instead (30 s)")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        if options.storm:
            reports = [
                runner.run(_storm(Path(folder), course)) for course in (storm.LONG, storm.LONG_HELPED)
            ]
            return 1 if any(map(storm.wrong, reports)) else 0
        if options.overload:
            loads = runner.run(overload.run(Path(folder)))
            print(overload.text(loads))
            return 1 if overload.wrong(loads) else 0
        results = runner.run(matrix.run(_made(folder, "native")))
        print(table.text(results))
        others = runner.run(matrix.run(_made(folder, "httpx"), matrix.ALONE, "httpx"))
        print("\nover httpx\n" + table.text(others))
    return 1 if any(one.wrong for one in (*results, *others)) else 0


async def _storm(folder: Path, course: storm.Course) -> storm.Report:
    report = await storm.run(_made(folder, "helped" if course.helped else "alone"), course)
    print(storm.text(report), flush=True)
    return report


def _made(folder: str | Path, name: str) -> Path:
    made = Path(folder) / name
    made.mkdir()
    return made


if __name__ == "__main__":
    sys.exit(main())
