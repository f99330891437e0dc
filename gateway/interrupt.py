"""The interrupt scope: deadline, client gone, kill switch and shutdown are reasons on one mechanism."""

from __future__ import annotations

import asyncio
from enum import Enum
from types import TracebackType


class Reason(Enum):
    DEADLINE = "deadline"
    CLIENT_GONE = "client_gone"
    KILL_SWITCH = "kill_switch"
    DRAINING = "draining"


class Interrupted(Exception):
    """Left the scope early; ``reason`` says why."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.value)
        self.reason = reason


class Interrupt:
    """A cancel scope around the task that entered it.

    ``fire`` may be called before entry (it then acts at once on entry), by any callback while inside,
    any number of times (the first reason wins), and after exit (nothing happens). It must not be
    called by the scope's own task: that one simply raises ``Interrupted``.
    """

    __slots__ = ("_cancelling", "_task", "_timer", "reason")

    def __init__(self) -> None:
        self.reason: Reason | None = None
        self._task: asyncio.Task[object] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._cancelling = 0

    def fire(self, reason: Reason) -> None:
        if self.reason is None:
            self.reason = reason
            if self._task is not None:
                self._task.cancel()

    def deadline(self, when: float) -> None:
        """Fires with ``Reason.DEADLINE`` at ``when`` (seconds of ``time.monotonic()``, which is the clock
        of the loop); replaces an earlier call."""
        if self._timer is not None:
            self._timer.cancel()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_at(when, self.fire, Reason.DEADLINE)

    def __enter__(self) -> Interrupt:
        if self.reason is not None:
            self._stop_timer()
            raise Interrupted(self.reason)
        self._task = asyncio.current_task()
        if self._task is None:
            raise RuntimeError("an interrupt scope lives inside a task")
        self._cancelling = self._task.cancelling()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        task, self._task = self._task, None
        self._stop_timer()
        if self.reason is None or task is None:
            return
        ours = task.uncancel() <= self._cancelling
        if ours and kind is not None and issubclass(kind, asyncio.CancelledError):
            raise Interrupted(self.reason) from error

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
