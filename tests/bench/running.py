"""A started gateway, ready to be measured."""

from __future__ import annotations

import re
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from . import processes
from .peers import Peer
from .processes import Cores
from .wire import Target, ask

START_S = 60.0
BESIDE_S = 0.5
_ADDRESS = re.compile(r"listening on http://\S*:(\d+)")
_POLL_S = 0.005


class DidNotStart(Exception):
    """A gateway gave no good answer in time; the text ends with what it logged last."""


@dataclass(frozen=True)
class Running:
    """``pids`` is empty where there is no gateway; ``startup_s`` ends with a first good answer."""

    target: Target
    pids: list[int]
    startup_s: float | None


@contextmanager
def upstream(cores: Cores, folder: Path, python: str) -> Iterator[tuple[int, int]]:
    """The fake provider: its port and its pid."""
    log = folder / "upstream.log"
    root = Path(__file__).parents[2]
    command = [python, "-m", f"{__package__}.upstream"]
    process = processes.spawn(command, core=cores.load, log=log, cwd=root)
    try:
        yield _wait_for_port(process, log, re.compile(r"^(\d+)$", re.MULTILINE)), process.pid
    finally:
        processes.stop(process)


@contextmanager
def started(peer: Peer, cores: Cores, folder: Path, provider: int) -> Iterator[Running]:
    """Start ``peer`` before the provider on that port. Raises `DidNotStart`."""
    launch = peer.launch(folder, provider, _free_port())
    if launch is None:
        yield Running(Target(provider), [], None)
        return
    log = folder / "gateway.log"
    beside = [_beside(command, cores, folder) for command in launch.beside]
    begin = time.perf_counter()
    process = processes.spawn(launch.command, core=cores.gateway, log=log, env=launch.env, cwd=folder)
    try:
        port = launch.port or _wait_for_port(process, log, _ADDRESS)
        target = Target(port, launch.path, launch.headers, launch.model_prefix)
        _wait_for_answer(process, log, target)
        startup_s = time.perf_counter() - begin
        yield Running(target, processes.tree(process.pid), startup_s)
    finally:
        processes.stop(process)
        for other in beside:
            processes.stop(other)


def _beside(command: Sequence[str], cores: Cores, folder: Path) -> subprocess.Popen[str]:
    process = processes.spawn(command, core=cores.load, log=folder / "beside.log", cwd=folder)
    time.sleep(BESIDE_S)
    return process


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for_port(process: subprocess.Popen[str], log: Path, pattern: re.Pattern[str]) -> int:
    deadline = time.perf_counter() + START_S
    while time.perf_counter() < deadline and process.poll() is None:
        if found := pattern.search(log.read_text(errors="replace")):
            return int(found[1])
        time.sleep(_POLL_S)
    raise DidNotStart(_last_words(log))


def _wait_for_answer(process: subprocess.Popen[str], log: Path, target: Target) -> None:
    deadline = time.perf_counter() + START_S
    request, last = target.request("bench"), "no answer"
    while time.perf_counter() < deadline and process.poll() is None:
        try:
            answer = ask(target, request, 5)
            if answer.good:
                return
            last = f"status {answer.status}: {answer.body[:300].decode(errors='replace')}"
        except OSError:
            pass
        time.sleep(_POLL_S)
    raise DidNotStart(f"{last}; {_last_words(log)}")


def _last_words(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return " / ".join(line.strip() for line in lines[-3:])[-400:] or "it printed nothing"
