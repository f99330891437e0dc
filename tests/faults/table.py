"""The matrix as text."""

from __future__ import annotations

from collections.abc import Sequence

from tests.faults.matrix import TOPOLOGIES, Result

_NAME, _CELL = 36, 43


def text(results: Sequence[Result]) -> str:
    """A row for each fault and mode, a column for each topology: what the client saw, after how many
    seconds and calls; ``!`` where it must not be."""
    shown = [name for name in TOPOLOGIES if any(one.cell.topology == name for one in results)]
    heads = ["fault", *(f"{name} (saw, s, calls)" for name in shown)]
    lines = [heads[0].ljust(_NAME + 9) + "".join(one.ljust(_CELL) for one in heads[1:])]
    width = len(shown)
    for start in range(0, len(results), width):
        row = results[start : start + width]
        cell = row[0].cell
        mode = "stream" if cell.stream else "buffered"
        lines.append(f"{cell.fault.name:<{_NAME}}{mode:<9}" + "".join(_cell(one) for one in row))
    bad = [one for one in results if one.wrong]
    lines += [
        f"! {one.cell.fault.name}, {'stream' if one.cell.stream else 'buffered'}, {one.cell.topology}: "
        + "; ".join(one.wrong)
        for one in bad
    ]
    return "\n".join((*lines, f"{len(results)} cells, {len(bad)} wrong"))


def _cell(one: Result) -> str:
    mark = "!" if one.wrong else " "
    return f"{mark}{one.seen!s:<33}{one.elapsed_s:4.1f} {one.calls:>2}".ljust(_CELL)
