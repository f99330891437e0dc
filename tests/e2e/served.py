"""A gateway whose life and configuration are the test: it is reconfigured, signalled, ended, killed."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import yaml

from gateway.accounting.chain import verify
from tests.e2e.rig import CHAT, ROOT, Gateway, chat, merged, samples
from tests.fakes.client import RawClient, request
from tests.fakes.upstream import Upstream

SOON_S = 5.0


class Served(Gateway):
    """``settings``: what the configuration holds; ``configure`` changes and ``write`` writes it."""

    def __init__(self, folder: Path, upstream: Upstream, changes: dict[str, Any]) -> None:
        super().__init__(folder, upstream, changes)
        self.settings: dict[str, Any] = yaml.safe_load(self.config.read_text())

    @property
    def config(self) -> Path:
        return self._config

    @config.setter
    def config(self, path: Path) -> None:
        self._config = path

    def configure(self, changes: dict[str, Any]) -> None:
        self.settings = merged(self.settings, changes)
        self.write(yaml.safe_dump(self.settings))

    def write(self, text: str) -> None:
        """The whole file at once, by renaming."""
        aside = self.config.with_suffix(".new")
        aside.write_text(text)
        aside.rename(self.config)

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    async def ended(self, within_s: float = SOON_S) -> int:
        """The exit code of a process that ends by itself in time; else ``subprocess.TimeoutExpired``."""
        assert self._process is not None
        return await asyncio.to_thread(self._process.wait, within_s)

    def kill(self) -> None:
        """SIGKILL, where it still runs."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    async def readyz(self) -> tuple[int, dict[str, Any]]:
        answer = await self.ask("/readyz")
        return answer.status, answer.json()

    async def begin(self, client: RawClient, request_id: str, **fields: Any) -> None:
        """Sends a chat request and leaves the answer to be read."""
        headers = {"x-request-id": request_id}
        await client.send(request(CHAT, chat(**fields), key=self.key, headers=headers))

    async def logged(self, event: str, count: int = 1) -> list[dict[str, Any]]:
        """The lines of this kind, once there are so many."""
        async with asyncio.timeout(SOON_S):
            while len(lines := self.log(event)) < count:
                await asyncio.sleep(0.01)
        return lines

    async def draining(self) -> None:
        """Returns once a signal was heard."""
        await self.logged("draining")

    async def reloads(self) -> dict[str, float]:
        """How often a configuration was taken up or refused."""
        found = samples(await self.metrics())["gateway_config_reloads_total"]
        return {labels["result"]: value for labels, value in found}

    async def reloaded(self, result: str, count: int, within_s: float = SOON_S) -> None:
        async with asyncio.timeout(within_s):
            while (await self.reloads()).get(result, 0) < count:
                await asyncio.sleep(0.02)

    def assert_whole(self) -> None:
        """Of a gateway that has ended: each admitted request has one row and one line, the chains are
        proved, nothing was lost and nothing failed inside."""
        lines = self.log("request")
        admitted = sorted(line["request_id"] for line in lines if "deployment" in line)
        assert sorted(row["request_id"] for row in self.rows()) == admitted
        assert len({line["request_id"] for line in lines}) == len(lines)
        self.assert_proved()
        assert [line["rows_lost"] for line in self.log("stopped")] == [0]
        assert not [line for line in self.log() if "traceback" in line]

    def assert_proved(self) -> None:
        writers = list(self.data_dir.glob("ledger/*/"))
        assert writers
        for writer in writers:
            assert verify(writer) == []


@asynccontextmanager
async def served(folder: Path, upstream: Upstream, **changes: Any) -> AsyncIterator[Served]:
    """A running gateway, which the test may end; killed afterwards where it still runs."""
    gateway = Served(folder, upstream, changes)
    try:
        await gateway.start()
        yield gateway
    finally:
        gateway.kill()


def command(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """The command to its end, without what the caller's environment could configure."""
    return subprocess.run(
        [sys.executable, "-m", "gateway", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "COLUMNS": "200", **environ},
        check=False,
    )


async def came(upstream: Upstream, count: int) -> None:
    """Returns once the upstream has seen so many requests."""
    async with asyncio.timeout(SOON_S):
        while len(upstream.seen) < count:
            await asyncio.sleep(0.005)
