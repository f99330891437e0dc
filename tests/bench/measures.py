"""What is measured of one gateway in one round."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import uvloop

from . import closed_loop
from .latency import Latencies, OpenLoop
from .meter import Meter
from .processes import Cores
from .running import Running
from .streams import Streaming, Tally
from .upstream import BURST_CHUNKS, buffered_body
from .wire import ask

BURST_STREAMS = 32
PACED_STREAMS = 100
HELD_STREAMS = 1000
RATE = 200
SLOW_RATE = 20
_HOLD_PATIENCE_S = 40.0
# A 99th percentile wants samples.
_LATENCY_LENGTHS = 2
_MOST_WARM_UPS = 8
_RAMP_S = 2.0


@dataclass
class Reading:
    """One gateway, one round. None: not measured, or it has no such thing.

    Latencies are absolute and in microseconds; ``rate`` is what they were measured at.
    """

    startup_s: float | None = None
    idle_mb: float | None = None
    held: int | None = None
    held_mb: float | None = None
    stream_kb: float | None = None
    requests_s: float | None = None
    request_cpu_us: float | None = None
    gateway_share: float | None = None
    load_share: float | None = None
    gateway_core_others: float | None = None
    load_core_others: float | None = None
    rate: float | None = None
    p50_us: float | None = None
    p99_us: float | None = None
    burst_chunks_s: float | None = None
    burst_chunk_cpu_us: float | None = None
    burst_gateway_share: float | None = None
    burst_load_share: float | None = None
    paced_chunks_s: float | None = None
    paced_chunk_cpu_us: float | None = None
    paced_gateway_share: float | None = None
    paced_load_share: float | None = None
    errors: int = 0
    remarks: list[str] = field(default_factory=list)


class Bench:
    """Measures one running gateway; each measure fills its part of ``reading``."""

    def __init__(self, running: Running, cores: Cores, provider: int, folder: Path, seconds: float) -> None:
        self._target = running.target
        self._folder = folder
        self._seconds = seconds
        self._meter = Meter(cores, running.pids, provider)
        self._whole = Meter(cores, running.pids, provider)
        self.reading = Reading(startup_s=running.startup_s)

    def memory(self) -> None:
        """Idle memory, and what an open stream adds on a process that has seen few requests."""
        self._meter.wait_until_idle()
        self.reading.idle_mb = self._meter.rss_kb() / 1024
        self._warm_up()
        self._meter.wait_until_idle()
        before = self._meter.rss_kb()
        load = Streaming(self._target, "bench-hold", HELD_STREAMS, ramp_s=0)
        held, during = uvloop.run(load.hold(_HOLD_PATIENCE_S, self._meter.rss_kb))
        self.reading.held, self.reading.held_mb = held, during / 1024
        self.reading.stream_kb = (during - before) / held if held else None

    def _warm_up(self) -> None:
        request, stream = self._target.request("bench"), self._target.request("bench-burst")
        for _ in range(20):
            self._count_bad("warm-up", int(not ask(self._target, request, 20).good))
        for _ in range(5):
            answer = ask(self._target, stream, 30)
            complete = answer.marks == BURST_CHUNKS and b"[DONE]" in answer.body[-40:]
            self._count_bad("warm-up", int(not (answer.status == 200 and complete)))

    def _count_bad(self, where: str, errors: int) -> None:
        if errors:
            self.reading.errors += errors
            self.reading.remarks.append(f"{errors} errors in {where}")

    def speed(self) -> None:
        """Throughput, latency and streams, on a warm process."""
        self._whole.start()
        self._warm_up()
        self._throughput()
        self._latency()
        self._burst()
        self._paced()
        self._whole.stop()
        used = self._whole.usage
        self.reading.gateway_core_others = used.gateway_core_others
        self.reading.load_core_others = used.load_core_others

    def _throughput(self) -> None:
        self._warm_up_until_steady()
        self._meter.wait_until_idle()
        self._meter.start()
        seen = closed_loop.run(self._target, self._seconds, self._folder)
        self._meter.stop()
        used, reading = self._meter.usage, self.reading
        reading.requests_s = seen.rate
        reading.request_cpu_us = used.cpu_us_per(seen.requests)
        reading.gateway_share, reading.load_share = used.gateway_share, used.load_share
        self._count_bad("requests", seen.errors)
        if seen.bytes_each < len(buffered_body()):
            self._count_bad(f"requests: answers of {seen.bytes_each:.0f} bytes", seen.requests)

    def _warm_up_until_steady(self) -> None:
        """Load in pieces of 1 s while it gets faster: just-in-time compilers take their time."""
        best = 0.0
        for _ in range(_MOST_WARM_UPS):
            rate = closed_loop.run(self._target, 1, self._folder).rate
            if rate < best * 1.1:
                return
            best = rate

    def _latency(self) -> None:
        """At `RATE`, or at `SLOW_RATE` where that is more than the gateway can do."""
        able = (self.reading.requests_s or 0) > RATE
        seen = self._open_loop(RATE if able else SLOW_RATE)
        if able and seen.overloaded:
            seen = self._open_loop(SLOW_RATE)
        self.reading.p50_us, self.reading.p99_us = seen.percentile(50), seen.percentile(99)
        self._count_bad("latency", seen.errors)

    def _open_loop(self, rate: int) -> Latencies:
        self._meter.wait_until_idle()
        self.reading.rate = rate
        OpenLoop(self._target, rate, 0.5).run()
        return OpenLoop(self._target, rate, self._seconds * _LATENCY_LENGTHS).run()

    def _burst(self) -> None:
        tally = self._stream("bench-burst", BURST_STREAMS)
        used, reading = self._meter.usage, self.reading
        reading.burst_chunks_s = tally.chunks / used.seconds
        reading.burst_chunk_cpu_us = used.cpu_us_per(tally.chunks)
        reading.burst_gateway_share = used.gateway_share
        reading.burst_load_share = used.load_share

    def _paced(self) -> None:
        tally = self._stream("bench-paced", PACED_STREAMS)
        used, reading = self._meter.usage, self.reading
        reading.paced_chunks_s = tally.chunks / used.seconds
        reading.paced_chunk_cpu_us = used.cpu_us_per(tally.chunks)
        reading.paced_gateway_share = used.gateway_share
        reading.paced_load_share = used.load_share

    def _stream(self, model: str, streams: int) -> Tally:
        self._meter.wait_until_idle()
        load = Streaming(self._target, model, streams, _RAMP_S)
        tally = uvloop.run(load.run(self._seconds, self._meter.start, self._meter.stop))
        self._count_bad(model, tally.errors)
        return tally
