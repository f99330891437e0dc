"""``python -m tests.accuracy [--errors]``: the table; exit 1 when structured data is not found well enough.

``--errors`` shows what went wrong in the tuning half; the other half is for measuring only.
"""

from __future__ import annotations

import sys

from tests.accuracy.detectors import detectors
from tests.accuracy.scoring import Score, below, score
from tests.accuracy.sentences import HELD_OUT, SPLITS, TUNING, read


def main(show_errors: bool) -> int:
    sentences = read()
    failed = False
    for name, detector in detectors().items():
        for split in SPLITS:
            part = [sentence for sentence in sentences if sentence.split == split]
            scores = score(detector, part)
            print(f"\n{name}, {split}: {len(part)} sentences")
            _print(scores)
            if show_errors and split == TUNING:
                print(*(f"  {error}" for found in scores.values() for error in found.errors), sep="\n")
            if split == HELD_OUT and (faults := below(scores)):
                failed = True
                print(*(f"  not good enough: {fault}" for fault in faults), sep="\n")
    return int(failed)


def _print(scores: dict[str, Score]) -> None:
    print(f"{'entity':<16}{'precision':>10}{'recall':>8}{'F1':>8}{'found':>7}{'missed':>8}{'false':>7}")
    for entity in sorted(scores):
        one = scores[entity]
        print(
            f"{entity:<16}{one.precision:>10.3f}{one.recall:>8.3f}{one.f1:>8.3f}"
            f"{one.found:>7}{one.missed:>8}{one.false:>7}"
        )


if __name__ == "__main__":
    sys.exit(main("--errors" in sys.argv[1:]))
