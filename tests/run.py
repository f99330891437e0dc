"""`python -m tests.run`: every test, in a few processes at a time, since most of them wait.

Each part is a pytest of its own, with the arguments given here. What a part says is shown when it has
ended; the exit code is 1 if one has failed.
"""

from __future__ import annotations

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).parent
AT_ONCE = 2
PARTS_OF = {"e2e": 6}
"""Folders that are long; the others are a part each."""


def parts() -> list[list[str]]:
    """All test files, in parts; the long ones first, so that none of them is left for the end."""
    folders: dict[str, list[str]] = {}
    for file in sorted(HERE.rglob("test_*.py")):
        folders.setdefault(file.relative_to(HERE).parts[0], []).append(str(file))
    found: list[list[str]] = []
    for name in sorted(folders, key=lambda name: -PARTS_OF.get(name, 1)):
        count = PARTS_OF.get(name, 1)
        found += [folders[name][start::count] for start in range(count)]
    return found


def run(files: list[str], arguments: list[str]) -> bool:
    """Whether all of ``files`` passed."""
    began_s = time.monotonic()
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments, *files]
    ended = subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True, check=False)
    good = ended.returncode == 0
    said = ended.stdout.strip().splitlines()
    shown = said[-1:] if good else [*said, *ended.stderr.strip().splitlines()]
    names = sorted({str(Path(file).relative_to(HERE).parent) for file in files})
    print(f"{', '.join(names)}: {time.monotonic() - began_s:.0f} s", *shown, sep="\n  ", flush=True)
    return good


def main(arguments: list[str]) -> int:
    with ThreadPoolExecutor(AT_ONCE) as workers:
        results = list(workers.map(lambda files: run(files, arguments), parts()))
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
