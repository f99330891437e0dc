"""What operators ask a process for: answered for all workers, whichever of them is asked."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from gateway.edge import together
from gateway.edge.admin import DeploymentState
from gateway.edge.line import Line
from gateway.errors import Unavailable
from gateway.tasks import Tasks
from gateway.telemetry.merging import Merging
from gateway.telemetry.metrics import Metrics

_Result = TypeVar("_Result")


class Answers:
    """``readiness``, ``deployments``: of this process. ``refresh`` sets the gauges that are read late; runs
    in any thread. ``line``: to the other workers, None where there are none."""

    def __init__(
        self,
        readiness: Callable[[], dict[str, Any]],
        deployments: Callable[[], list[DeploymentState]],
        refresh: Callable[[], None],
        metrics: Metrics,
        line: Line | None,
    ) -> None:
        self._own_readiness, self._own_deployments = readiness, deployments
        self._refresh, self._metrics, self._line = refresh, metrics, line
        self._thread = ThreadPoolExecutor(1, "metrics")  # its own: others' may wait for the network

    def start(self, tasks: Tasks) -> None:
        if self._line is not None:
            tasks.spawn(self._line.listen(self._state), "worker's orders")
            tasks.spawn(self._line.push(self._state), "worker's state")

    async def close(self) -> None:
        """After the last request was counted."""
        if self._line is not None:
            await self._line.close(await self._state())
        self._thread.shutdown(wait=False)

    async def readiness(self) -> dict[str, Any]:
        own = self._own_readiness()
        if self._line is None:
            return own
        try:
            return together.readiness(own, (await self._line.collect()).workers)
        except Unavailable as error:
            return {**own, "ready": False, "reasons": [*own["reasons"], error.message]}

    async def deployments(self) -> list[DeploymentState]:
        own = self._own_deployments()
        if self._line is None:
            return own
        return together.deployments(own, (await self._line.collect()).workers)

    async def metrics(self) -> bytes:
        """The text exposition. Raises ``Unavailable``: sums without some of their parts would look like
        counters that went down."""
        if self._line is None:
            return await self._threaded(self._render)
        gathered = await self._line.collect()
        rows = [one.state["metrics"] for one in gathered.workers if one.state is not None]
        return await self._threaded(lambda: self._merge([gathered.dead, *rows]))

    def _render(self) -> bytes:
        self._refresh()
        return self._metrics.render()

    def _merge(self, parts: list[Any]) -> bytes:
        merging = Merging()
        for rows in parts:
            merging.add(rows)
        return merging.render(self._metrics.keeps)

    async def _state(self) -> dict[str, Any]:
        return {
            "pid": os.getpid(),
            "readiness": self._own_readiness(),
            "deployments": [one.model_dump() for one in self._own_deployments()],
            "metrics": await self._threaded(self._rows),
        }

    def _rows(self) -> list[Any]:
        self._refresh()
        return self._metrics.rows()

    async def _threaded(self, work: Callable[[], _Result]) -> _Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)
