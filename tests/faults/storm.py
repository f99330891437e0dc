"""A provider that is down under steady load, and comes back: retries must not add to the load that it
cannot take, and the first requests after healing must be answered."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.e2e.rig import CHAT, Gateway, chat
from tests.e2e.routes import Providers, pool, routing, whole
from tests.fakes.answers import error_answer
from tests.fakes.client import RawClient, request
from tests.fakes.upstream import send

MODEL, HEALTHY = "storm-1", "storm-2"
MOST_CALLS = 1.2
"""Calls for each request while all of them fail."""
MOST_HELPED = 0.05
"""Calls of the failing one for each request, where a healthy one answers."""
SETTLED_S = 0.5
"""Requests that begin later than this after healing must all be answered."""


@dataclass(frozen=True)
class Course:
    """``rate``: requests per second, begun whether or not earlier ones have ended. ``helped``: there is a
    second deployment, which is healthy throughout."""

    rate: int
    failing_s: float
    healed_s: float
    helped: bool = False


SHORT = Course(rate=60, failing_s=4.0, healed_s=2.0)
SHORT_HELPED = Course(rate=60, failing_s=4.0, healed_s=2.0, helped=True)
LONG = Course(rate=100, failing_s=45.0, healed_s=15.0)
LONG_HELPED = Course(rate=100, failing_s=45.0, healed_s=15.0, helped=True)


@dataclass
class Report:
    """``calls``: at the failing deployment while it failed; ``all_calls``: those at the other one, too.
    ``failed``: requests without an answer in all the time. ``statuses``: of requests begun in each second.
    ``recovered_s``: from healing to the first good answer. ``late``: requests begun when it must have
    recovered, and failed. ``longest_s``: of any request."""

    course: Course
    requests: int = 0
    calls: int = 0
    all_calls: int = 0
    failed: int = 0
    statuses: list[Counter[int]] = field(default_factory=list)
    recovered_s: float = float("inf")
    late: int = 0
    longest_s: float = 0.0

    @property
    def calls_each(self) -> float:
        return self.calls / max(self.requests, 1)


async def run(folder: Path, course: Course) -> Report:
    async with Providers() as upstream:
        retry = {"attempts": 3, "backoff_s": 0.1, "backoff_max_s": 0.4}
        group = pool("a", "b", retry=retry) if course.helped else pool("a", retry=retry)
        gateway = Gateway(folder, upstream, routing(upstream, {"storm": group}))
        await gateway.start()
        try:
            return await _Storm(gateway, upstream, course).run()
        finally:
            await gateway.stop()


class _Storm:
    def __init__(self, gateway: Gateway, upstream: Providers, course: Course) -> None:
        self._gateway = gateway
        self._upstream = upstream
        self._course = course
        self._idle: list[RawClient] = []
        self._healed_s = float("inf")
        self._report = Report(course)

    async def run(self) -> Report:
        course, report = self._course, self._report
        self._upstream.always(MODEL, send(error_answer("500 Internal Server Error")))
        self._upstream.always(HEALTHY, *whole(False))
        began_s = time.monotonic()
        failing = round(course.rate * course.failing_s)
        async with asyncio.TaskGroup() as tasks:
            for number in range(failing + round(course.rate * course.healed_s)):
                await asyncio.sleep(began_s + number / course.rate - time.monotonic())
                if number == failing:
                    report.requests, report.all_calls = failing, len(self._upstream.seen)
                    report.calls = self._upstream.calls(MODEL)
                    self._upstream.always(MODEL, *whole(False))
                    self._healed_s = time.monotonic()
                tasks.create_task(self._one(number // course.rate))
        for client in self._idle:
            await client.close()
        return report

    async def _one(self, second: int) -> None:
        client = self._idle.pop() if self._idle else await self._gateway.client().__aenter__()
        began_s = time.monotonic()
        await client.send(request(CHAT, chat(model="storm"), key=self._gateway.key))
        status = (await client.read()).status
        self._idle.append(client)
        self._note(second, status, began_s, time.monotonic())

    def _note(self, second: int, status: int, began_s: float, ended_s: float) -> None:
        report = self._report
        while len(report.statuses) <= second:
            report.statuses.append(Counter())
        report.statuses[second][status] += 1
        report.longest_s = max(report.longest_s, ended_s - began_s)
        report.failed += status != 200
        if status == 200 and ended_s > self._healed_s:
            report.recovered_s = min(report.recovered_s, ended_s - self._healed_s)
        elif began_s > self._healed_s + SETTLED_S:
            report.late += 1


def wrong(report: Report) -> list[str]:
    found = []
    most = MOST_HELPED if report.course.helped else MOST_CALLS
    if report.calls_each > most or report.all_calls > report.requests * MOST_CALLS:
        found.append(
            f"{report.calls_each:.2f} calls for each request while failing, {report.all_calls} in all"
        )
    if report.course.helped and report.failed:
        found.append(f"{report.failed} requests failed although somebody could have answered")
    if report.late or report.recovered_s > SETTLED_S:
        found.append(f"recovered after {report.recovered_s:.2f} s, {report.late} failed later than that")
    return found


def text(report: Report) -> str:
    lines = [f"{'s':>3}  answers by status"]
    for second, statuses in enumerate(report.statuses):
        shown = ", ".join(f"{status}: {count}" for status, count in sorted(statuses.items()))
        lines.append(f"{second:>3}  {shown}")
    course = "failing, a healthy one beside it" if report.course.helped else "failing"
    lines.append(
        f"{course}: {report.requests} requests, {report.calls} calls upstream = {report.calls_each:.3f} for"
        f" each ({report.all_calls} with the other's); {report.failed} in all without an answer; healed:"
        f" first answer after {report.recovered_s * 1e3:.0f} ms, {report.late} failures later than"
        f" {SETTLED_S} s; slowest request {report.longest_s:.2f} s"
    )
    return "\n".join([*lines, *(f"! {one}" for one in wrong(report))])
