"""What must be said beside the table: how it was measured, and what was not."""

from __future__ import annotations

from collections.abc import Sequence

from .closed_loop import CONNECTIONS
from .column import Column
from .measures import BURST_STREAMS, PACED_STREAMS, RATE, SLOW_RATE
from .upstream import PACED_INTERVAL_S

# Other programs' share of a core from which the numbers are not to be believed.
_BUSY = 0.1

METHOD = [
    "Each gateway has one core to itself; load generator and fake provider share another. Were they "
    "the bottleneck? A rate stands without `≥` only if the gateway used at least 90 % of its core "
    "*and* the same load without a gateway (column *direct*, same run) reached at least twice that "
    "rate. The CPU rows show both cores. Every answer's status and length and every stream's chunks "
    "and `[DONE]` are checked; what fails counts as an error.",
    "",
    f"- Requests: closed loop, keep-alive, {CONNECTIONS} connections, answers of 1 KB.",
    f"- Latency: open loop at {RATE} requests a second, from the moment each was due, less that of "
    f"*direct* (in brackets: absolute). ‡ cannot do {RATE} a second; at {SLOW_RATE} a second.",
    f"- Chunks sent at once: {BURST_STREAMS} streams, again and again, whole answers in one write; one "
    f"by one: {PACED_STREAMS} streams of {1 / PACED_INTERVAL_S:.0f} chunks a second. † did not keep pace.",
]


def remarks(columns: Sequence[Column]) -> list[str]:
    """A line for each gateway that needs one, with the reason where it is missing."""
    found = []
    for column in columns:
        seen = sorted({remark for reading in column.readings for remark in reading.remarks})
        about = [column.peer.note] if column.peer.note and column.readings else []
        about += [column.missing] if column.missing else []
        if about or seen:
            found.append(f"- {column.peer.title}: {'; '.join(about + seen)}.")
    others = [c.median(name) or 0 for c in columns for name in ("gateway_core_others", "load_core_others")]
    if others and max(others) > _BUSY:
        found.append(f"- **Do not quote**: other programs took up to {max(others):.0%} of a core.")
    if not any(column.peer.name == "direct" and column.readings for column in columns):
        found.append("- Without *direct* every rate is marked `≥` and latency is absolute.")
    return found
