"""One exchange at a time through the application's own chain, stopped wherever a test likes."""

from __future__ import annotations

import asyncio
import hashlib
import os
import types
from collections.abc import Callable, Coroutine, Generator, Mapping
from pathlib import Path
from typing import Any

import orjson

from gateway.app import App
from gateway.exchange import ClientRequest, Exchange, Operation, Outcome, Reply
from gateway.formats import openai
from gateway.interrupt import Reason
from gateway.pipeline import Pipeline
from gateway.settings import Settings
from gateway.stage import Middleware, Stage, Transform
from gateway.tasks import Tasks
from gateway.telemetry.log import Log

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
    """An application without a server. ``provider``: its settings; ``transport``: its engine."""

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
        append = app.journal.append

        def noted(row: Mapping[str, Any]) -> None:
            append(row)
            if row["kind"] == "exchange":
                self.rows.append(dict(row))

        app.journal.append = noted  # type: ignore[method-assign]
        self.tasks = Tasks(lambda event, error, request_id: self._failed(event, error))
        self.tasks.spawn(app.admission.controller.run(), "settlements")
        self.task: asyncio.Task[None]
        self.opened: list[str] = []
        self.closed: list[str] = []
        self.entered: list[str] = []
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

    async def close(self) -> None:
        await self.app.stop()
        await self.tasks.close()
        self.log.close()
        os.close(self._null)


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
