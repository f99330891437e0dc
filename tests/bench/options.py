"""What the command line asks for."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .peers import all_peers

HOME = Path(__file__).parents[2] / ".bench"

_ABOUT = """\
This gateway beside others, in one run on one machine.

Each gateway is started alone on the first core, before a fast fake provider that shares the second
core with the load generator. In every round each of them is measured once, one after the other;
the table shows medians over the rounds. The other gateways are downloaded into .bench/ the first
time; one that cannot be had is named with the reason, and the run goes on.
"""
_EXAMPLES = """\
examples:
  python -m tests.bench.run                           all of them, 3 rounds, up to 10 minutes
  python -m tests.bench.run --quick --only nginx      does it work? half a minute
  python -m tests.bench.run --only gateway --rounds 5 while working on this gateway
  python -m tests.bench.run --markdown > table.md     for the README; progress goes to stderr

targets:
%s

`≥` before a rate: something other than the gateway may have limited it. A busy machine shows in the
row of what other programs took; such a run is worth little.
The exit code is 1 if this gateway, or where it was not asked for any other, gave no results.
"""


@dataclass(frozen=True)
class Options:
    """``seconds`` is the length of one measurement."""

    only: Sequence[str]
    rounds: int
    seconds: float
    json: Path
    markdown: bool


def parse(arguments: Sequence[str] | None) -> Options:
    """Exits with code 2 where the arguments make no sense."""
    parser = _parser()
    given = parser.parse_args(arguments)
    only = [name.strip() for name in given.only.split(",") if name.strip()]
    names = [peer.name for peer in all_peers()]
    if unknown := sorted(set(only) - set(names)):
        parser.error(f"--only: no target {', '.join(unknown)}; there are {', '.join(names)}")
    rounds = given.rounds or (1 if given.quick else 3)
    seconds = given.seconds or (1.0 if given.quick else 2.0)
    if rounds < 1 or seconds < 1:
        parser.error("--rounds and --seconds must be at least 1")
    return Options(only, rounds, seconds, given.json, given.markdown)


def _parser() -> argparse.ArgumentParser:
    width = max(len(peer.name) for peer in all_peers()) + 2
    targets = "\n".join(f"  {peer.name:<{width}}{peer.note}" for peer in all_peers())
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.run",
        description=_ABOUT,
        epilog=_EXAMPLES % targets,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    only = "measure these targets, comma-separated (direct always is: it is the base of the others)"
    parser.add_argument("--only", default="", metavar="A,B", help=only)
    parser.add_argument("--rounds", type=int, metavar="N", help="interleaved rounds (3)")
    parser.add_argument("--seconds", type=float, metavar="S", help="length of each measurement (2)")
    parser.add_argument("--quick", action="store_true", help="one round of 1 s each, to see that it works")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    default = HOME / "results.json"
    parser.add_argument("--json", type=Path, default=default, help="every round's numbers (%(default)s)")
    return parser
