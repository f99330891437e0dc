"""``python -m tests.faults``: the fault matrix as a table; ``--storm``: a minute of a provider that is
down and comes back. Exit code 1 if anything was seen that must not be."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

import uvloop

from tests.faults import matrix, storm, table


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--storm", action="store_true", help="the retry storm instead (70 s)")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        if options.storm:
            report = runner.run(storm.run(Path(folder), storm.LONG))
            print(storm.text(report))
            return 1 if storm.wrong(report) else 0
        results = runner.run(matrix.run(Path(folder)))
    print(table.text(results))
    return 1 if any(one.wrong for one in results) else 0


if __name__ == "__main__":
    sys.exit(main())
