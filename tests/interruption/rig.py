"""One exchange at a time through the application's own chain, stopped wherever a test likes."""

from __future__ import annotations

import asyncio
import hashlib
import os
import types
from collections.abc import Callable, Coroutine, Generator, Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.app import App
from gateway.exchange import ClientRequest, Exchange, Operation, Outcome, Reply, Source
from gateway.formats import openai
from gateway.interrupt import Reason
from gateway.pipeline import Pipeline
from gateway.settings import Settings
from gateway.stage import Middleware, Stage
from gateway.tasks import Tasks
from gateway.telemetry.log import Log
from tests.interruption.sink import MemorySink

KEY = "sk-gw-interruption-sweep-key"
BODIES: dict[str, dict[str, Any]] = {
    "stream": {"model": "m", "stream": True, "messages": [{"role": "user", "content": "hi"}]},
    "buffered": {"model": "m", "messages": [{"role": "user", "content": "hi"}]},
}
NEVER = 10**9
"""A suspension that no exchange comes to."""
by_reason = pytest.mark.parametrize("reason", [*Reason, None], ids=lambda r: r.value if r else "cancelled")
by_kind = pytest.mark.parametrize("kind", BODIES)


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

    def relay(self, source: Source, stream: bool) -> Source:
        return self._inner.relay(source, stream)

    def close(self, outcome: Outcome) -> None:
        self._rig.closed.append(self._name)
        self._inner.close(outcome)


class Rig:
    """An application without a server. ``provider``: its settings; ``transport``: its engine.
    ``taken``: how many suspensions the last exchange had that was to be interrupted."""

    def __init__(self, folder: Path, provider: Mapping[str, Any], **model: Any) -> None:
        self.faults: list[tuple[str, BaseException, str]] = []
        self._null = os.open(os.devnull, os.O_WRONLY)
        self.log = Log(self._null)
        self.log.failure = self._failed  # type: ignore[method-assign, assignment]
        settings = _settings(folder, provider, model)
        self.app = app = App(settings, lambda: settings, None, self.log)
        self.group = app.snapshot.groups["m"]
        self.transport: Any = self.group.deployments[0].provider.transport
        self.rows: list[dict[str, Any]] = []
        append = app.ledger.journal.append

        def noted(row: Mapping[str, Any]) -> None:
            append(row)
            if row["kind"] == "exchange":
                self.rows.append(dict(row))

        app.ledger.journal.append = noted  # type: ignore[method-assign]
        self.tasks = Tasks(lambda event, error, request_id: self._failed(event, error))
        self.tasks.spawn(app.admission.reconciler.run(), "settlements")
        self.task: asyncio.Task[None]
        self.opened: list[str] = []
        self.closed: list[str] = []
        self.entered: list[str] = []
        self.taken = 0
        recorded = tuple(Recorder(middleware, self) for middleware in app.chain())
        self.pipeline = Pipeline(
            recorded, self.app.dispatch, lambda event, error, _: self._failed(event, error)
        )

    def forget(self) -> None:
        for noted in (self.opened, self.entered, self.closed, self.rows):
            noted.clear()

    def check(self) -> None:
        """What must hold after every exchange, however it ended."""
        assert self.closed == self.opened[::-1]
        assert len(self.rows) == self.entered.count("Limits")
        assert len(self.app.live) == 0
        assert self.app.uploads.held == 0
        assert self.app.concurrency.running == 0
        assert self.app.metrics.in_flight.value == 0
        assert self.app.admission.controller.open == 0
        assert self.faults == []

    def _failed(self, event: str, error: BaseException, **fields: Any) -> None:
        self.faults.append((event, error, str(fields)))

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
        return Exchange(client, "req_sweep", Operation.CHAT, openai, self.app.snapshot, now_s)

    async def ended(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs ``work`` as a task of its own, ``self.task``."""

        async def drive() -> None:
            await work

        self.task = self.tasks.spawn(drive(), "exchange")
        await asyncio.wait([self.task])
        for _ in range(6):
            await asyncio.sleep(0)  # for what was handed over at the end

    def sweep(self) -> Iterator[int]:
        """Where to interrupt one exchange after the other: 1, 2, … until one has ended before."""
        at = self.taken = 0
        while self.taken >= at:
            at += 1
            yield at

    async def interrupted(
        self, exchange: Exchange, sink: MemorySink, reason: Reason | None, at: int
    ) -> None:
        """Serves an exchange, stopped at its ``at``-th suspension."""
        self.forget()
        stop = self.stopping(exchange, sink, reason)
        work, count = stepped(self.pipeline.serve(exchange, sink), at, stop)
        await self.ended(work)
        self.taken = count[0]

    def stopping(self, exchange: Exchange, sink: MemorySink, reason: Reason | None) -> Callable[[], None]:
        """What stops an exchange; ``reason``: None cancels its task."""

        def stop() -> None:
            if reason is None:
                self.task.cancel()
            elif reason is Reason.CLIENT_GONE:
                sink.leave()
            else:
                exchange.interrupt.fire(reason)

        return stop

    async def left_at_send(self, kind: str, at: int) -> int:
        """One exchange whose client leaves at its ``at``-th send; returns how many began."""
        self.forget()
        sends, sink = 0, MemorySink()

        def leave() -> None:
            nonlocal sends
            sends += 1
            if sends == at:
                asyncio.get_running_loop().call_soon(sink.leave)

        sink.before_send = leave
        await self.ended(self.pipeline.serve(self.exchange(BODIES[kind]), sink))
        return sends

    async def close(self) -> None:
        await self.app.stop()
        await self.tasks.close()
        self.log.close()
        os.close(self._null)


async def interrupted(rig: Rig, kind: str, reason: Reason | None, at: int) -> None:
    """One exchange, stopped at its ``at``-th suspension, and what must hold after it."""
    exchange, sink = rig.exchange(BODIES[kind]), MemorySink()
    await rig.interrupted(exchange, sink, reason, at)
    rig.check()
    for row in rig.rows:
        told_all = sink.finished and b"error" not in sink.sent[-1]
        assert (row["outcome"] == "ok") == told_all
        if reason is Reason.CLIENT_GONE and not sink.finished:
            assert row["outcome"] == "client_gone"


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


def _settings(folder: Path, provider: Mapping[str, Any], model: Mapping[str, Any]) -> Settings:
    price = {"input_per_mtok_usd": "1", "output_per_mtok_usd": "2"}
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    one = {"provider": "fake", "model": "upstream", "price": price}
    return Settings.model_validate(
        {
            "storage": {"data_dir": str(folder)},
            "providers": {"fake": provider},
            "models": {"m": {"deployments": [one] * 2 if model else [one], **model}},
            "tenants": {
                "acme": {
                    "models": ["*"],
                    "keys": [{"id": "k", "hash": f"sha256:{digest}"}],
                    "limits": {"rpm": 10**9, "tpm": 10**12, "concurrency": 1},
                    "budget": {"usd": 10**6},
                }
            },
        }
    )


SIMULATED = {"kind": "simulated", "simulate": {"latency_s": "0.0001", "chunk_s": "0.0001", "words": "3"}}
