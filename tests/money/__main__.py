"""``python -m tests.money``: budgets and limits over several replicas on a real Redis, through kills,
freezes and lost stores, as a table; with names: only these scenarios. Exit code 1 if anything was seen
that must not be."""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import tempfile
from pathlib import Path

import uvloop

from tests.money import catalogue, table
from tests.money.audit import Found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.money", description=__doc__)
    names = [one.name for one in catalogue.SCENARIOS]
    parser.add_argument("name", nargs="*", help=f"of: {'; '.join(names)}")
    parser.add_argument("--keep", action="store_true", help="leave the replicas' files where they are")
    options = parser.parse_args()
    if unknown := set(options.name) - set(names):
        parser.error(f"there is no scenario {', '.join(sorted(unknown))}; there are: {'; '.join(names)}")
    folder = Path(tempfile.mkdtemp(prefix="money-"))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        found = runner.run(_run(folder, set(options.name or names)))
    table.show(found)
    if options.keep:
        print(folder)
    else:
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if any(one.wrong for one in found) else 0


async def _run(folder: Path, names: set[str]) -> list[Found]:
    chosen = [one for one in catalogue.SCENARIOS if one.name in names]
    found = []
    async for one in catalogue.played(folder, chosen):
        print(f"{one.name}: {'wrong' if one.wrong else 'right'}, {one.took_s:.1f} s", file=sys.stderr)
        found.append(one)
    return found


if __name__ == "__main__":
    sys.exit(main())
