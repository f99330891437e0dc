from __future__ import annotations

import asyncio
import time

from gateway.telemetry.lag import LagProbe


async def test_an_idle_loop_has_little_lag() -> None:
    probe = LagProbe(asyncio.get_running_loop())
    assert probe.max_60s() == probe.sustained() == 0
    probe.start()
    await asyncio.sleep(0.25)
    probe.stop()
    assert 0 <= probe.max_60s() < 0.1


async def test_a_blocked_loop_is_seen_while_and_after_it_is_blocked() -> None:
    probe = LagProbe(asyncio.get_running_loop())
    probe.start()
    time.sleep(0.4)
    assert 0.25 < probe.max_60s() < 1
    await asyncio.sleep(0.01)
    assert 0.25 < probe.max_60s() < 1
    assert probe.sustained() < 0.25
    probe.stop()


async def test_a_stopped_probe_measures_nothing() -> None:
    probe = LagProbe(asyncio.get_running_loop())
    probe.start()
    probe.start()
    probe.stop()
    time.sleep(0.15)
    await asyncio.sleep(0)
    assert probe.max_60s() == 0
