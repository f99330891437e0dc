"""The gateway as its users run it: a process with a configuration file, in front of a fake provider."""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.fakes.client import Answer, RawClient, request
from tests.fakes.upstream import Upstream

ROOT = Path(__file__).parents[2]
CHAT = "/v1/chat/completions"
START_S = 30.0
STOP_S = 20.0
PRICE = {"input_per_mtok_usd": 2.5, "output_per_mtok_usd": 10, "cached_input_per_mtok_usd": 1.25}


def group(provider: str = "fake", **settings: Any) -> dict[str, Any]:
    """A model group of one deployment that answers soon or not at all. Each upstream request is one
    that a test has scripted: no second attempts, and no breaker between the tests."""
    return {
        "deployments": [{"provider": provider, "model": "upstream-model", "price": PRICE}],
        "timeouts": {"connect_s": 2, "first_event_s": 3, "idle_s": 2, "total_s": 20},
        "retry": {"attempts": 1},
        **settings,
    }


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """``base`` with ``changes`` laid over it, objects inside objects too."""
    result = dict(base)
    for name, value in changes.items():
        held = result.get(name)
        result[name] = merged(held, value) if isinstance(held, dict) and isinstance(value, dict) else value
    return result


class Gateway:
    """One running gateway. ``key``: a tenant's; ``provider_key``: what the provider is shown."""

    def __init__(self, folder: Path, upstream: Upstream, changes: dict[str, Any]) -> None:
        self.key = f"sk-gw-{secrets.token_urlsafe(24)}"
        self.provider_key = f"sk-provider-{secrets.token_urlsafe(24)}"
        self.secrets = [self.key, self.provider_key]
        self.upstream = upstream
        self.data_dir = folder / "data"
        self.stdout, self.stderr = folder / "stdout", folder / "stderr"
        self.host, self.port = "127.0.0.1", 0
        self.arguments = ["--port", "0"]
        self._config = folder / "gateway.yaml"
        self._config.write_text(yaml.safe_dump(merged(self._settings(), changes)))
        self._process: subprocess.Popen[bytes] | None = None

    def _settings(self) -> dict[str, Any]:
        digest = hashlib.sha256(self.key.encode()).hexdigest()
        return {
            "server": {"drain_s": 5},
            "storage": {"url": "memory://", "data_dir": str(self.data_dir)},
            "providers": {
                "fake": {
                    "kind": "openai",
                    "base_url": f"{self.upstream.url}/v1",
                    "api_key": self.provider_key,
                }
            },
            "models": {"chat": group()},
            "tenants": {"acme": {"models": ["*"], "keys": [{"id": "ci", "hash": f"sha256:{digest}"}]}},
        }

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def start(self) -> None:
        command = [sys.executable, "-m", "gateway", "serve", "--config", str(self._config), *self.arguments]
        with self.stdout.open("wb") as out, self.stderr.open("wb") as err:
            self._process = subprocess.Popen(command, stdout=out, stderr=err, cwd=ROOT, env=_environment())
        deadline_s = time.monotonic() + START_S
        while not (line := self._listening()):
            if self._process.poll() is not None or time.monotonic() > deadline_s:
                await self.stop()
                raise AssertionError(f"the gateway did not start:\n{self.stderr.read_text()[-4000:]}")
            await asyncio.sleep(0.02)
        self.host, port = line.removeprefix("listening on http://").rsplit(":", 1)
        self.port = int(port)

    def _listening(self) -> str:
        lines = self.stdout.read_text().splitlines(keepends=True)
        found = (line for line in lines if line.startswith("listening on ") and line.endswith("\n"))
        return next(found, "").strip()

    async def stop(self) -> int:
        """SIGTERM; the exit code."""
        process = self._process
        assert process is not None
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            return await asyncio.to_thread(process.wait, STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"the gateway did not stop within {STOP_S} s of SIGTERM") from None

    def client(self, deadline_s: float = 15.0) -> RawClient:
        return RawClient(self.host, self.port, deadline_s)

    async def ask(self, path: str = CHAT, body: Any = None, **request_fields: Any) -> Answer:
        """One request on a connection of its own, with the tenant's key."""
        async with self.client() as client:
            await client.send(request(path, body, **{"key": self.key, **request_fields}))
            return await client.read()

    async def chat(self, *, headers: dict[str, str] | None = None, **fields: Any) -> Answer:
        return await self.ask(CHAT, chat(**fields), headers=headers)

    async def metrics(self) -> str:
        async with self.client() as client:
            await client.send(request("/metrics"))
            return (await client.read()).body.decode()

    def rows(self, kind: str = "exchange") -> list[dict[str, Any]]:
        """The ledger's rows of a kind, over all writers and days."""
        files = sorted(self.data_dir.glob("ledger/*/????-??-??.jsonl"))
        rows = [orjson.loads(line) for file in files for line in _whole_lines(file)]
        return [row for row in rows if row["kind"] == kind]

    def log(self, event: str | None = None) -> list[dict[str, Any]]:
        """What was logged; a line that is no JSON object fails."""
        lines = [orjson.loads(line) for line in _whole_lines(self.stderr)]
        return [line for line in lines if event is None or line["event"] == event]

    async def row(self, request_id: str, within_s: float = 2.0) -> dict[str, Any]:
        """The request's only row, once it is there."""
        rows = await _some(self.rows, request_id, within_s)
        assert len(rows) == 1, f"{len(rows)} rows in the ledger for {request_id}"
        return rows[0]

    async def line(self, request_id: str, event: str = "request", within_s: float = 2.0) -> dict[str, Any]:
        """The request's only log line of this kind, once it is there."""
        lines = await _some(lambda: self.log(event), request_id, within_s)
        assert len(lines) == 1, f"{len(lines)} log lines {event!r} for {request_id}"
        return lines[0]


def chat(**fields: Any) -> dict[str, Any]:
    """A request body."""
    return {"model": "chat", "messages": [{"role": "user", "content": "Say something."}], **fields}


def samples(text: str) -> dict[str, list[tuple[dict[str, str], float]]]:
    """Metrics text as ``{name: [(labels, value)]}``."""
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((dict(sample.labels), sample.value))
    return found


async def _some(
    entries: Callable[[], list[dict[str, Any]]], request_id: str, within_s: float
) -> list[dict[str, Any]]:
    deadline_s = time.monotonic() + within_s
    while True:
        found = [entry for entry in entries() if entry.get("request_id") == request_id]
        if found or time.monotonic() > deadline_s:
            return found
        await asyncio.sleep(0.02)


def _whole_lines(file: Path) -> list[bytes]:
    """A line that is still being written is left for the next look."""
    return [line for line in file.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]


def _environment() -> dict[str, str]:
    """The caller's, without what could configure a gateway or send its traffic elsewhere."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.upper().startswith(("GATEWAY_", "OPENAI_")) and not name.upper().endswith("_PROXY")
    }
