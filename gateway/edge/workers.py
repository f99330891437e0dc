"""Several workers on one listening socket: started, watched, restarted, asked and ended by this process.

uvicorn has a supervisor, too. It runs uvicorn's own server rather than one with our drain; it ends workers
on SIGHUP instead of letting them reload; it starts a dead one again at once and for ever; and what its
workers count it does not add up. A worker here is a process of the same program, with a socket to this one
over which orders go down and states come up. All that was ever shown has passed through here, so that sums
over workers never go down when one dies.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from collections.abc import Callable

from gateway.edge.line import Order
from gateway.edge.server import CannotServe, url_of
from gateway.edge.worker import Command, Worker, launch
from gateway.frames import Message
from gateway.telemetry.merging import Merging

ANSWER_S = 0.2
"""A worker that does not say how it is within this time is taken as it was."""
PAUSE_S, MOST_PAUSE_S = 0.2, 10.0
"""Before a dead worker is started again; doubled for each that lived for less than ``MOST_PAUSE_S``."""
FAILED_STARTS = 5
"""In a row, and none serves: it is of no use to go on."""

Report = Callable[..., None]
"""Event name, and its fields."""


class Supervisor:
    """``count`` workers that accept from ``listener``, which this object closes. The first one is started
    alone: what keeps it from serving is told once. Unasked, a worker never ends for good."""

    def __init__(self, count: int, listener: socket.socket, command: Command, report: Report) -> None:
        self._count, self._listener = count, listener
        self._command, self._report = command, report
        self._workers: dict[int, Worker] = {}
        self._dead = Merging()
        self._heard = asyncio.Condition()
        self._first, self._end = asyncio.Event(), asyncio.Event()
        self._round = self._failed_starts = self._code = 0
        self._announced = False
        self._refused: str | None = None

    async def run(self, announce: Callable[[str], None]) -> int:
        """Until a signal has come and all workers have ended; the exit code: 1 if one of them did not end
        well. ``announce`` hears the URL once all are ready. Raises ``CannotServe``."""
        self._announce, self._url = announce, url_of(self._listener)
        loop = asyncio.get_running_loop()
        for ending in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(ending, self.stop)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        async with asyncio.TaskGroup() as self._tasks:
            for number in range(1, self._count + 1):
                self._tasks.create_task(self._keep(number))
        if self._refused is not None:
            raise CannotServe(self._refused)
        return self._code

    def stop(self) -> None:
        """The workers drain; a second time, they end at once."""
        order: Order = "hurry" if self._end.is_set() else "drain"
        self._end.set()
        self._first.set()
        self._listener.close()  # who connects when the workers do not listen any more is refused
        for worker in self._workers.values():
            worker.order(order)

    def _reload(self) -> None:
        for worker in self._workers.values():
            worker.order("reload")

    async def _keep(self, number: int) -> None:
        if number > 1:
            await self._first.wait()
        pause_s = PAUSE_S
        while not self._end.is_set():
            began_s = time.monotonic()
            await self._run_one(number)
            lived_long = time.monotonic() - began_s > MOST_PAUSE_S
            pause_s = PAUSE_S if lived_long else pause_s
            try:
                async with asyncio.timeout(pause_s):
                    await self._end.wait()
            except TimeoutError:
                pause_s = min(2 * pause_s, MOST_PAUSE_S)

    async def _run_one(self, number: int) -> None:
        try:
            worker = await launch(number, self._listener, self._command)
        except OSError as error:
            self._report("worker_not_started", level="error", worker=number, error=str(error))
            return
        self._workers[number] = worker
        if self._end.is_set():
            worker.order("drain")
        while (message := await worker.read()) is not None:
            await self._take(worker, message)
        del self._workers[number]
        if worker.state is not None:
            self._dead.add(worker.state["metrics"], gauges=False)
        code = await worker.ended()
        await self._wake()
        self._ended(worker, code)

    async def _take(self, worker: Worker, message: Message) -> None:
        if message["kind"] == "ready":
            self._is_ready(worker)
        elif message["kind"] == "refused":
            worker.refused = message["reasons"]
        elif message["kind"] == "collect":
            self._tasks.create_task(self._gather(worker, message["id"]))
        else:
            await self._wake()

    def _is_ready(self, worker: Worker) -> None:
        worker.ready = True
        self._failed_starts = 0
        self._first.set()
        self._report("worker_ready", worker=worker.number, pid=worker.process.pid)
        complete = len(self._ready()) == self._count
        if complete and not self._announced and not self._end.is_set():
            self._announced = True
            self._announce(self._url)

    def _ready(self) -> list[Worker]:
        return [worker for worker in self._workers.values() if worker.ready]

    def _ended(self, worker: Worker, code: int) -> None:
        fields: dict[str, object] = {"worker": worker.number, "pid": worker.process.pid, "exit": code}
        why = "; ".join(worker.refused)
        if why:
            fields["reason"] = why
        self._report("worker_ended", level="error" if code else "info", **fields)
        if self._end.is_set():
            self._code = 1 if code else self._code
        elif not worker.ready:
            self._failed_starts += 1
            at_once = bool(why) and not self._announced
            if at_once or (self._failed_starts >= FAILED_STARTS and not self._ready()):
                self._refused = why or f"the workers cannot start; the last one ended with {code}"
                self.stop()

    async def _gather(self, asker: Worker, number: int) -> None:
        """Answers ``asker`` with what all workers say now or, where they are late, said last."""
        self._round += 1
        round_, asked = self._round, list(self._workers.values())
        for worker in asked:
            worker.tell({"kind": "tell", "round": round_})
        try:
            async with asyncio.timeout(ANSWER_S), self._heard:
                await self._heard.wait_for(lambda: all(one.gone or one.round >= round_ for one in asked))
        except TimeoutError:
            pass
        asker.tell({"kind": "gathered", "id": number, "workers": self._told(), "dead": self._dead.rows()})

    def _told(self) -> list[dict[str, object]]:
        """Of every number; of those that are being started nothing is known."""
        unknown = {"age_s": 0.0, "state": None}
        numbers = range(1, self._count + 1)
        return [
            self._workers[one].told() if one in self._workers else {"worker": one, **unknown}
            for one in numbers
        ]

    async def _wake(self) -> None:
        async with self._heard:
            self._heard.notify_all()
