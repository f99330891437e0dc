"""Real Redis servers on free ports of the loopback, each in a folder of its own, gone after the test."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

START_S = 10.0


class RedisServer:
    """``args`` of redis-server; the same port after ``restart``. Times in seconds."""

    def __init__(self, folder: str, *args: str, config: str | None = None, port: int | None = None) -> None:
        self.port = free_port() if port is None else port
        self._folder = folder
        self._args = args
        self._config = config
        self._process = self._launch()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def command(self, *words: str | int) -> bytes:
        """What Redis answers, raw, to one command over a connection of its own."""
        with socket.create_connection(("127.0.0.1", self.port), START_S) as connection:
            connection.sendall(_packed(words))
            return connection.recv(1 << 20)

    def send(self, *words: str | int) -> None:
        """One command, whose answer nobody awaits."""
        with socket.create_connection(("127.0.0.1", self.port), START_S) as connection:
            connection.sendall(_packed(words))

    def wait_for(self, done: Callable[[], bool], what: str) -> None:
        until = time.monotonic() + START_S
        while time.monotonic() < until:
            try:
                if done():
                    return
            except OSError:
                pass
            time.sleep(0.02)
        raise AssertionError(f"redis-server on port {self.port}: no {what} within {START_S} s")

    def freeze(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self._process.send_signal(signal.SIGCONT)
        self._process.kill()
        self._process.wait()

    def restart(self) -> None:
        self._process = self._launch()

    def _launch(self) -> subprocess.Popen[bytes]:
        words = ["redis-server"]
        if self._config is not None:
            path = Path(self._folder) / f"{self.port}.conf"
            path.write_text(self._config, encoding="utf-8")
            words.append(str(path))
        words += ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", self._folder]
        if "--sentinel" not in self._args:
            words += ["--save", ""]
        null = subprocess.DEVNULL
        self._process = subprocess.Popen([*words, *self._args], stdout=null, stderr=null)
        self.wait_for(lambda: self.command("PING")[:1] in b"+-", "answer")
        return self._process


def _packed(words: tuple[str | int, ...]) -> bytes:
    parts = [str(word).encode() for word in words]
    head = b"*%d\r\n" % len(parts)
    return head + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)


@contextmanager
def redis_server(*args: str, config: str | None = None) -> Iterator[RedisServer]:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        server = RedisServer(folder, *args, config=config)
        try:
            yield server
        finally:
            server.kill()


def free_port() -> int:
    """Below 55536, so that a cluster's bus, 10000 above, has room; outside the range of outgoing ports."""
    pick = random.Random(os.urandom(8))
    while True:
        port = pick.randrange(15_000, 30_000)
        with socket.socket() as probe, socket.socket() as bus:
            try:
                probe.bind(("127.0.0.1", port))
                bus.bind(("127.0.0.1", port + 10_000))
            except OSError:
                continue
            return port
