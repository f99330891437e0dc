"""A scenario at the end of a budget's period: the clock of the fleet's processes is set to shortly before a
full hour. A small library, put before libc's, moves what they are told of the time."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gateway.storage.interface import Fund
from gateway.storage.keys import TenantKeys
from tests.money.audit import SOON_S, charged
from tests.money.stage import PLACES, Stage

BEFORE_S = 20
"""The fleet starts so long before the full hour."""
LAST_S = 0.5
"""Of the hour, in which a burst begins."""
HOUR_S = 3600
_SHIFT = "MONEY_CLOCK_SHIFT_S"
_SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
static long shift(void) {
  static long seconds = -1;
  if (seconds < 0) { const char *text = getenv("MONEY_CLOCK_SHIFT_S"); seconds = text ? atol(text) : 0; }
  return seconds;
}
int clock_gettime(clockid_t clock, struct timespec *now) {
  static int (*real)(clockid_t, struct timespec *);
  if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
  int failed = real(clock, now);
  if (!failed && clock == CLOCK_REALTIME) now->tv_sec += shift();
  return failed;
}
int gettimeofday(struct timeval *now, void *zone) {
  struct timespec exact;
  (void)zone;
  if (clock_gettime(CLOCK_REALTIME, &exact)) return -1;
  now->tv_sec = exact.tv_sec;
  now->tv_usec = exact.tv_nsec / 1000;
  return 0;
}
time_t time(time_t *now) {
  struct timespec exact;
  clock_gettime(CLOCK_REALTIME, &exact);
  if (now) *now = exact.tv_sec;
  return exact.tv_sec;
}
"""


def possible() -> bool:
    return shutil.which("cc") is not None


@contextmanager
def shifted(folder: Path) -> Iterator[None]:
    """Processes that begin in here are told that the full hour is ``BEFORE_S`` away."""
    source, library = folder / "clock.c", folder / "clock.so"
    source.write_text(_SOURCE)
    command = ["cc", "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"]
    subprocess.run(command, check=True, capture_output=True)
    now_s = int(time.time())
    ahead_s = (HOUR_S - BEFORE_S - now_s) % HOUR_S
    os.environ["LD_PRELOAD"], os.environ[_SHIFT] = str(library), str(ahead_s)
    try:
        yield
    finally:
        del os.environ["LD_PRELOAD"], os.environ[_SHIFT]


async def hour_ends(stage: Stage) -> None:
    """The budget comes back whole; what is under way at that time is charged to the hour before."""
    end_s = int(_now_s()) // HOUR_S * HOUR_S + HOUR_S
    left_s = end_s - _now_s()
    stage.found.must(1 < left_s <= BEFORE_S, f"the hour ends in {left_s:.1f} s: too soon")
    await asyncio.sleep(left_s - LAST_S)
    async with stage.bursting():
        await asyncio.sleep(LAST_S + 0.1)
        stage.load.since_s = end_s
        stage.note(f"{stage.admitted(stage.load.asked)} before, {await _first_after(stage)} at once after")
    await stage.until_spent()
    before = charged(stage.fleet, stage.tenant) - charged(stage.fleet, stage.tenant, end_s)
    budget = await stage.settled(SOON_S)
    hour = Fund("t.hour", budget["limit"], end_s - HOUR_S, end_s)
    key = TenantKeys(stage.tenant, "").fund(hour)
    spent = int(stage.fleet.redis.command("HGET", key, "S").split(b"\r\n")[1])
    stage.found.must(spent == before, f"the hour before: the store says {spent}, the ledgers {before}")
    stage.found.must(0 < before <= budget["limit"], f"the hour before: {before} of {budget['limit']}")


async def _first_after(stage: Stage) -> int:
    first = stage.admitted(await stage.load.burst())
    stage.found.must(first == PLACES, f"{first} were admitted at once in the new hour, not {PLACES}")
    return first


def _now_s() -> float:
    """As the fleet is told."""
    return time.time() + int(os.environ[_SHIFT])
