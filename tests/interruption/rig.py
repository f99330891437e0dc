"""One exchange at a time through the real chain, stopped wherever a test likes."""

from __future__ import annotations

import asyncio
import hashlib
import types
from collections.abc import Callable, Coroutine, Generator, Mapping
from pathlib import Path
from typing import Any

import orjson
from prometheus_client import CollectorRegistry

from gateway.accounting.journal import Journal, claim_writer
from gateway.accounting.pricing import Price
from gateway.accounting.settle import Settler
from gateway.calls.inline import dispatch
from gateway.control.bytes_in_flight import BytesInFlight
from gateway.control.keys import Key, Tenant
from gateway.control.live import LiveExchanges
from gateway.exchange import ClientRequest, Exchange, Operation, Outcome, Reply
from gateway.formats import openai
from gateway.interrupt import Reason
from gateway.middleware.audit import Audit
from gateway.middleware.authenticate import Authenticate
from gateway.middleware.limits import Limits
from gateway.middleware.measure import Measure
from gateway.middleware.models import Models
from gateway.middleware.receive import Receive
from gateway.pipeline import Pipeline
from gateway.providers.openai import OpenAIProvider
from gateway.providers.simulated import Script, SimulatedTransport
from gateway.providers.transport import Endpoint, Transport
from gateway.routing.deployment import Deployment, Group, Timeouts
from gateway.runtime import Snapshot
from gateway.stage import Middleware, Stage, Transform
from gateway.tasks import Tasks
from gateway.telemetry.log import Log
from gateway.telemetry.metrics import Metrics

KEY = "sk-gw-interruption-sweep-key"


class MemorySink:
    """A client in memory. ``steps``: how many sends have begun."""

    def __init__(self) -> None:
        self.started = False
        self.status = 0
        self.sent: list[bytes] = []
        self.finished = False
        self.gone = False
        self.fire: Callable[[Reason], None] = lambda reason: None
        self.before_send: Callable[[], None] = lambda: None

    def on_gone(self, fire: Callable[[Reason], None]) -> None:
        self.fire = fire

    def leave(self) -> None:
        self.gone = True
        self.fire(Reason.CLIENT_GONE)

    def keep_alive(self, head: Callable[[], Any]) -> None:
        """Silences do not occur here."""

    async def start(self, status: int, headers: Any) -> None:
        await self._wait()
        self.started, self.status = True, status

    async def send(self, payload: bytes) -> None:
        await self._wait()
        self.sent.append(payload)

    async def finish(self, payload: bytes = b"") -> None:
        await self._wait()
        self.sent.append(payload)
        self.finished = True

    async def _wait(self) -> None:
        self.before_send()
        await asyncio.sleep(0)


class Recorder:
    """Wraps a middleware; notes with the rig what its stages do, in order."""

    def __init__(self, inner: Middleware, rig: Rig) -> None:
        self._inner = inner
        self._name = type(inner).__name__
        self._rig = rig

    def begin(self, exchange: Exchange) -> Stage:
        self._rig.opened.append(self._name)
        return _Recorded(self._inner.begin(exchange), self._name, self._rig)


class _Recorded(Stage):
    __slots__ = ("_inner", "_name", "_rig")

    def __init__(self, inner: Stage, name: str, rig: Rig) -> None:
        self._inner = inner
        self._name = name
        self._rig = rig

    async def enter(self) -> Reply | None:
        await asyncio.sleep(0)  # every stage can be interrupted, also those that never wait
        reply = await self._inner.enter()
        self._rig.entered.append(self._name)
        await asyncio.sleep(0)
        return reply

    def transform(self) -> Transform | None:
        return self._inner.transform()

    def close(self, outcome: Outcome) -> None:
        self._rig.closed.append(self._name)
        self._inner.close(outcome)


class Rig:
    def __init__(self, folder: Path, transport: Transport, base: tuple[Endpoint, str]) -> None:
        self.faults: list[tuple[str, BaseException]] = []
        writer, lock = claim_writer(folder)
        self.journal = Journal(folder / "ledger", writer, lock=lock)
        self.rows: list[dict[str, Any]] = []
        append = self.journal.append

        def noted(row: Mapping[str, Any]) -> None:
            append(row)
            self.rows.append(dict(row))

        self.journal.append = noted  # type: ignore[method-assign]
        self.settler = Settler(self._failed)
        self.tasks = Tasks(self._failed)
        self.task: asyncio.Task[None]
        self.live = LiveExchanges()
        self.in_flight = BytesInFlight(1 << 20)
        self.log = Log(stream_fd=_null_fd())
        self.metrics = Metrics(CollectorRegistry())
        self.opened: list[str] = []
        self.closed: list[str] = []
        self.entered: list[str] = []
        chain: tuple[Middleware, ...] = (
            Audit(self.log, self.live),
            Measure(self.metrics),
            Authenticate(),
            Models(),
            Receive(self.in_flight),
            Limits(self.journal, self.settler, self.log),
        )
        recorded = tuple(Recorder(middleware, self) for middleware in chain)
        self.pipeline = Pipeline(recorded, dispatch, self._failed)
        self.snapshot = _snapshot(transport, base, self.metrics)

    def forget(self) -> None:
        for noted in (self.opened, self.entered, self.closed, self.rows):
            noted.clear()

    def check(self) -> None:
        """What must hold after every exchange, however it ended."""
        assert self.closed == self.opened[::-1]
        assert len(self.rows) == self.entered.count("Limits")
        assert len(self.live) == 0
        assert self.in_flight.held == 0
        assert self.metrics.in_flight.value == 0
        assert self.faults == []

    def _failed(self, event: str, error: BaseException, request_id: str) -> None:
        self.faults.append((event, error))

    def exchange(self, body: dict[str, Any]) -> Exchange:
        raw = orjson.dumps(body)

        async def read_body(cap: int, received: Callable[[int], None]) -> bytes:
            await asyncio.sleep(0)
            received(len(raw))
            await asyncio.sleep(0)
            return raw

        headers = {
            b"authorization": b"Bearer " + KEY.encode(),
            b"content-type": b"application/json",
        }
        client = ClientRequest("POST", "/v1/chat/completions", headers, read_body)
        now_s = asyncio.get_running_loop().time()
        return Exchange(client, "req_sweep", Operation.CHAT, openai, self.snapshot, now_s)

    async def close(self) -> None:
        await self.settler.close()
        await self.tasks.close()
        self.journal.close()
        self.log.close()


def stepped(work: Coroutine[Any, Any, None], at: int, act: Callable[[], None]) -> tuple[Any, list[int]]:
    """``work``, with ``act`` called at its ``at``-th suspension, and a list that counts them."""
    count = [0]

    @types.coroutine
    def drive() -> Generator[Any, Any, None]:
        value: Any = None
        throw: BaseException | None = None
        while True:
            try:
                yielded = work.throw(throw) if throw is not None else work.send(value)
            except StopIteration:
                return
            count[0] += 1
            if count[0] == at:
                asyncio.get_running_loop().call_soon(act)
            throw = None
            try:
                value = yield yielded
            except BaseException as error:  # handed on to where it belongs
                throw = error

    return drive(), count


def _snapshot(transport: Transport, base: tuple[Endpoint, str], metrics: Metrics) -> Snapshot:
    endpoint, path = base
    provider = OpenAIProvider("fake", transport, endpoint, path, "provider-secret")
    price = Price.per_mtok(input=10**9, output=2 * 10**9)
    deployment = Deployment("m-1", provider, "upstream-model", price)
    group = Group("m", (deployment,), Timeouts(), 100, 1 << 20, 1 << 16)
    tenant = Tenant("acme", None)
    key = Key("k", tenant, hashlib.sha256(KEY.encode()).digest())
    return Snapshot(
        digest="test",
        keys=[key],
        groups={"m": group},
        aliases={},
        max_body_bytes=1 << 20,
        metrics=metrics,
    )


def _null_fd() -> int:
    import os

    return os.open(os.devnull, os.O_WRONLY)


SIMULATED = (Endpoint("http", "simulated.invalid", 80), "/v1")


def simulated(script: Script | None = None) -> SimulatedTransport:
    return SimulatedTransport(script or Script(latency_s=0.0001, chunk_s=0.0001, words=3))
