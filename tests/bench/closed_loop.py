"""Buffered requests as fast as they are answered, by `wrk`."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .wire import Target

CONNECTIONS = 64
_SCRIPT = """
wrk.method = "POST"
wrk.path = {path}
wrk.body = {body}
wrk.headers = {{ {headers} }}
function done(summary, latency, requests)
  local e = summary.errors
  local bad = e.connect + e.read + e.write + e.status + e.timeout
  io.write(string.format('\\nresult {{"requests": %d, "micros": %d, "bytes": %d, "bad": %d}}\\n',
    summary.requests, summary.duration, summary.bytes, bad))
end
"""


@dataclass(frozen=True)
class Throughput:
    """What `wrk` counted; ``errors`` are bad statuses, timeouts and broken connections."""

    requests: int
    seconds: float
    bytes_each: float
    errors: int

    @property
    def rate(self) -> float:
        return (self.requests - self.errors) / self.seconds


def available() -> bool:
    """Whether `wrk` is on this machine."""
    return shutil.which("wrk") is not None


def run(target: Target, seconds: float, folder: Path) -> Throughput:
    """Load ``target`` with buffered requests over `CONNECTIONS` connections."""
    script = folder / "wrk.lua"
    script.write_text(_script(target))
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{max(1, round(seconds))}s"]
    command += ["--timeout", "20s", "-s", str(script), f"http://127.0.0.1:{target.port}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60, check=True)
    return _result(done.stdout)


def _script(target: Target) -> str:
    headers = ", ".join(f"[{_lua(k)}] = {_lua(v)}" for k, v in target.all_headers.items())
    body = _lua(target.body("bench").decode())
    return _SCRIPT.format(path=_lua(target.path), body=body, headers=headers)


def _lua(text: str) -> str:
    return json.dumps(text)


def _result(output: str) -> Throughput:
    line = next(x for x in output.splitlines() if x.startswith("result "))
    found = json.loads(line.removeprefix("result "))
    requests = max(1, found["requests"])
    return Throughput(
        requests=found["requests"],
        seconds=found["micros"] / 1e6,
        bytes_each=found["bytes"] / requests,
        errors=found["bad"],
    )
