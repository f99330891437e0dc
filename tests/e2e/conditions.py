"""What must hold after every test, whatever it did."""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter, deque
from collections.abc import Iterator
from pathlib import Path

from tests.e2e.rig import Gateway, samples

OUTCOMES = frozenset({"ok", "partial", "error", "refused", "client_gone"})
SETTLED_WITHIN_S = 3.0
MAX_LAG_S = 0.1
LAG_WINDOW_S = 60.0
_NUMBER = re.compile(r"\b\d+\b")


class Conditions:
    """Checks one gateway and its upstream. ``notes``: what was excused, and why."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._waits: deque[tuple[float, float]] = deque([(time.monotonic(), 0.0)])  # the start counts, too
        self._known: set[str] = set()
        self.notes: list[str] = []

    async def check(self) -> None:
        """Raises ``AssertionError`` with everything that is still wrong when it should have settled.

        Rows and lines stay, so that a fault would show after every later test too: it is told once.
        """
        deadline_s = time.monotonic() + SETTLED_WITHIN_S
        while (fresh := self._fresh(await self._unsettled())) and time.monotonic() < deadline_s:
            await asyncio.sleep(0.02)
        fresh |= self._fresh(await self._wrong())
        self._gateway.upstream.forget()
        self._known |= fresh.keys()
        assert not fresh, "\n".join(fresh.values())

    def _fresh(self, problems: Iterator[str]) -> dict[str, str]:
        """What was not told before, by what it is but for its numbers."""
        found = {_NUMBER.sub("#", problem): problem for problem in problems}
        return {kind: problem for kind, problem in found.items() if kind not in self._known}

    async def _unsettled(self) -> Iterator[str]:
        """What may take a moment after the client has its answer."""
        metrics = samples(await self._gateway.metrics())
        return iter(
            [*_in_flight(metrics), *self._lines(metrics), *self._ledger(), *self._connections()],
        )

    def _lines(self, metrics: dict[str, list[tuple[dict[str, str], float]]]) -> Iterator[str]:
        """One terminal log line for each request."""
        lines = self._gateway.log("request")
        for request_id, count in Counter(line["request_id"] for line in lines).items():
            if count > 1:
                yield f"request {request_id} has {count} terminal log lines"
        for line in lines:
            if line["outcome"] not in OUTCOMES:
                yield f"request {line['request_id']} has the outcome {line['outcome']!r}"
        counted = sum(value for _, value in metrics.get("gateway_requests_total", []))
        if counted != len(lines):
            yield f"{counted:.0f} requests were counted, {len(lines)} were logged"

    def _ledger(self) -> Iterator[str]:
        """One row for each admitted request, and for each upstream request an attempt in a row."""
        rows = [row for row in self._gateway.rows() if row["kind"] == "exchange"]
        lines = {line["request_id"]: line for line in self._gateway.log("request")}
        admitted = {request_id for request_id, line in lines.items() if "deployment" in line}
        for request_id, count in Counter(row["request_id"] for row in rows).items():
            if count > 1:
                yield f"request {request_id} has {count} rows in the ledger"
            if request_id not in lines:
                yield f"row {request_id} has no terminal log line"
        for missing in admitted - {row["request_id"] for row in rows}:
            yield f"admitted request {missing} has no row in the ledger"
        for row in rows:
            line = lines.get(row["request_id"], row)
            if row["outcome"] not in OUTCOMES or row["outcome"] != line["outcome"]:
                yield f"row {row['request_id']} says {row['outcome']!r}, its log line {line['outcome']!r}"
        attempts = [attempt for row in rows for attempt in row["attempts"]]
        answered = sum(attempt["status"] is not None for attempt in attempts)
        seen = len(self._gateway.upstream.seen)
        if not answered <= seen <= len(attempts):
            yield f"the upstream saw {seen} requests, the ledger has {len(attempts)} attempts"

    def _connections(self) -> Iterator[str]:
        for seen in self._gateway.upstream.busy:
            yield f"an upstream connection is still in the middle of {seen.path}"

    async def _wrong(self) -> Iterator[str]:
        """What no moment of patience would mend."""
        text = await self._gateway.metrics()
        return iter([*self._leaks(text), *self._faults(), *self._lag(text), *self._scripts()])

    def _leaks(self, metrics: str) -> Iterator[str]:
        gateway = self._gateway
        ledger = sorted(file for file in gateway.data_dir.rglob("*") if file.is_file())
        sinks = {file.name: file.read_bytes() for file in (gateway.stdout, gateway.stderr, *ledger)}
        sinks["metrics"] = metrics.encode()
        for name, content in sinks.items():
            for secret in gateway.secrets:
                if secret.encode() in content:
                    yield f"the secret {secret[:6]}… is in {name}"

    def _faults(self) -> Iterator[str]:
        """Faults of the gateway's own: tracebacks, internal errors, lost log lines."""
        for line in self._gateway.log():
            if line["event"] in ("internal_error", "close_failed", "log_lines_dropped"):
                yield f"{line['event']}: {line.get('error')} {line.get('traceback', '')}"
            elif "traceback" in line:
                yield f"{line['event']} was logged with a traceback: {line['traceback']}"

    def _scripts(self) -> Iterator[str]:
        upstream = self._gateway.upstream
        if upstream.unscripted:
            yield f"{upstream.unscripted} upstream requests that the test did not foresee"
        if upstream.waiting:
            yield f"{upstream.waiting} scripted upstream requests did not come"

    def _lag(self, metrics: str) -> Iterator[str]:
        """The lag of the last minute, less what the process had to wait for a processor."""
        lag_s = max(value for _, value in samples(metrics)["gateway_event_loop_lag_seconds"])
        waited_s = self._note_cpu_wait()
        if lag_s >= MAX_LAG_S + waited_s:
            yield f"the event loop was {lag_s:.3f} s late; the process waited {waited_s:.3f} s for a CPU"
        elif lag_s >= MAX_LAG_S:
            self.notes.append(f"event loop lag of {lag_s:.3f} s, waited for a CPU: {waited_s:.3f} s")

    def _note_cpu_wait(self) -> float:
        """Seconds that the gateway's main thread was ready to run and did not, over the lag's window."""
        try:
            fields = Path(f"/proc/{self._gateway.pid}/schedstat").read_text().split()
        except OSError:
            return 0.0
        now_s, waited_s = time.monotonic(), int(fields[1]) / 1e9
        self._waits.append((now_s, waited_s))
        while self._waits[0][0] < now_s - LAG_WINDOW_S and len(self._waits) > 1:
            self._waits.popleft()
        return waited_s - self._waits[0][1]


def _in_flight(metrics: dict[str, list[tuple[dict[str, str], float]]]) -> Iterator[str]:
    for name in ("gateway_in_flight_requests", "gateway_reservations_open"):
        for labels, value in metrics.get(name, []):
            if value:
                yield f"{name}{labels or ''} is {value:.0f}"
