"""Several processes' control state around one store, without servers."""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from gateway.building import Builder, Transports
from gateway.control.control import Control
from gateway.control.issuing import Issuing
from gateway.control.jwt import JwtVerifier
from gateway.control.keys import Key
from gateway.control.live import LiveExchanges
from gateway.control.registry import Registry
from gateway.exchange import ClientRequest, Exchange, Operation
from gateway.formats import openai
from gateway.routing.health import Learned
from gateway.runtime import Snapshot
from gateway.settings import Settings
from gateway.storage.interface import StoreLost
from gateway.storage.memory import Memory, MemoryState
from gateway.tasks import Tasks
from gateway.telemetry.log import Log
from gateway.telemetry.metrics import Metrics

KEY = "sk-gw-control-rig-0123456789"


class Shared(Memory):
    """A store that others share, and that can be away (``gone``) or deaf to its bus (``mute``)."""

    shared = True

    def __init__(self, writer: str, state: MemoryState) -> None:
        super().__init__(writer, state)
        self.gone = False
        self.mute = False
        self.asked: list[str] = []

    def _ask(self, what: str) -> None:
        self.asked.append(what)
        if self.gone:
            raise StoreLost("cut off by the test")

    async def get(self, key: str) -> bytes | None:
        await asyncio.sleep(0)
        self._ask("get")
        return await super().get(key)

    async def put_new(self, key: str, value: bytes, ttl_s: float) -> bytes | None:
        self._ask("put_new")
        await asyncio.sleep(0)
        return await super().put_new(key, value, ttl_s)

    async def replace(self, key: str, expected: bytes, value: bytes | None, ttl_s: float) -> bool:
        self._ask("replace")
        await asyncio.sleep(0)
        return await super().replace(key, expected, value, ttl_s)

    async def fields(self, key: str) -> dict[str, bytes]:
        self._ask("fields")
        await asyncio.sleep(0)
        found = await super().fields(key)
        await asyncio.sleep(0)
        return found

    async def put_fields(self, key: str, fields: Mapping[str, bytes], ttl_s: float) -> None:
        self._ask("put_fields")
        await asyncio.sleep(0)
        await super().put_fields(key, fields, ttl_s)

    async def drop_fields(self, key: str, names: Sequence[str]) -> None:
        self._ask("drop_fields")
        await super().drop_fields(key, names)

    async def add(self, key: str, amount: int, ttl_s: float) -> int:
        self._ask("add")
        await asyncio.sleep(0)
        return await super().add(key, amount, ttl_s)

    async def bump(self, tenants: Sequence[str]) -> None:
        self._ask("bump")
        await super().bump(tenants)

    async def publish(self, topic: str, message: bytes) -> None:
        self._ask("publish")
        if not self.mute:
            await super().publish(topic, message)


class Process:
    """What one gateway process knows. ``events``: what it logged, as name and fields."""

    def __init__(self, name: str, state: MemoryState, folder: Path, snapshot: Snapshot) -> None:
        self.store = Shared(name, state)
        self.snapshot = snapshot
        self.live = LiveExchanges()
        self.metrics = Metrics(CollectorRegistry())
        self.faults: list[tuple[str, BaseException]] = []
        self.tasks = Tasks(lambda event, error, request_id: self.faults.append((event, error)))
        self.folder = folder / name
        self.folder.mkdir(exist_ok=True)
        self._null = os.open(os.devnull, os.O_WRONLY)
        self.log = Log(self._null)
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.log.event = self._event  # type: ignore[method-assign]
        self.control = Control(self.store, self.folder, self.live, self.metrics, self.log)
        self.tokens = JwtVerifier(self.tasks.spawn, self.log.event)
        self.registry = Registry(self.control.watch)
        self.registry.tokens = self.tokens
        self.control.renewed = self.registry.forget
        self.control.adopt(snapshot, [])
        self.issuing = Issuing(self.control)

    def _event(self, name: str, /, level: str = "info", **fields: Any) -> None:
        self.events.append((name, fields))

    def start(self) -> Process:
        self.tasks.spawn(self.control.run(), "control")
        return self

    async def close(self) -> None:
        await self.tasks.close()
        self.log.close()
        os.close(self._null)
        assert self.faults == []

    async def find(self, secret: str) -> Key:
        return await self.registry.find(secret.encode(), self.snapshot)

    def exchange(self, key: Key | None = None, model: str = "m", feature: str = "") -> Exchange:
        """One that runs, past ``Receive``."""

        async def read_body(cap: int, received: Callable[[int], None]) -> bytes:
            return b""

        client = ClientRequest("POST", "/v1/chat/completions", {}, read_body)
        made = Exchange(client, "req", Operation.CHAT, openai, self.snapshot, 0.0)
        made.key = key or next(iter(self.snapshot.keys))
        made.route = self.snapshot.route(made.key, model, Operation.CHAT)
        made.feature = feature
        self.live.add(made)
        return made


def settings(**changes: Any) -> Settings:
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    price = {"input_per_mtok_usd": "1", "output_per_mtok_usd": "2"}
    groups = {
        name: {"deployments": [{"provider": one, "model": "up", "price": price} for one in providers]}
        for name, providers in (("m", ("a", "b")), ("n", ("b",)))
    }
    tenants = {
        "acme": {
            "models": ["*"],
            "keys": [{"id": "k", "hash": f"sha256:{digest}", "tags": {"feature": "search"}}],
        },
        "other": {"models": ["m"], "keys": [{"id": "k", "hash": f"sha256:{secrets.token_hex(32)}"}]},
    }
    return Settings.model_validate(
        {
            "providers": {"a": {"kind": "simulated"}, "b": {"kind": "simulated"}},
            "models": groups,
            "aliases": {"alias": "m"},
            "tenants": tenants,
            **changes,
        }
    )


def snapshot_of(made: Settings | None = None) -> Snapshot:
    learned = Learned(lambda name, state: None)
    return Builder(Transports(), learned, Metrics(CollectorRegistry())).build(made or settings())


async def until(true: Callable[[], bool], within_s: float = 3.0) -> None:
    async with asyncio.timeout(within_s):
        while not true():
            await asyncio.sleep(0.002)
