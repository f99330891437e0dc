"""The place of one child: started, asked, killed when it hangs, and started again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from gateway.detection.messages import Nonsense
from gateway.detection.process import Child, ChildFailed, Report, launch
from gateway.detection.question import Question
from gateway.detection.waiting import Waiting
from gateway.privacy.policy import DetectorSpec

Kind = tuple[object, ...]
PAUSE_S, MOST_PAUSE_S = 0.1, 5.0
"""Before a child is started again; doubled each time for one that was never ready."""


class Slot:
    """A child that knows ``specs`` before it is asked; ``ready`` is told then. ``serves``: whether it
    takes a question about something else, too. ``task`` runs it."""

    task: asyncio.Task[None]

    def __init__(
        self,
        specs: Sequence[DetectorSpec],
        waiting: Waiting,
        report: Report,
        ready: Callable[[Slot], None],
        serves: Callable[[Question], bool],
    ) -> None:
        self.is_ready = False
        self.kinds = frozenset(map(kind, specs))
        self._specs, self._waiting = specs, waiting
        self._report, self._ready, self._serves = report, ready, serves
        self._retired = self._finishes = False
        self._was_ready = False
        self._pause_s = 0.0

    @property
    def retired(self) -> bool:
        return self._retired

    def retire(self, *, finish: bool = False) -> None:
        """It ends after what it is at, for good; ``finish``: when no question waits any more."""
        self._retired, self._finishes = True, finish
        self._waiting.wake()

    async def run(self) -> None:
        """One child after the other; cancels its own task when it is retired."""
        while not self._retired:
            self._was_ready = False
            await self._one()
            longer_s = PAUSE_S if self._was_ready else 2 * self._pause_s
            self._pause_s = min(max(PAUSE_S, longer_s), MOST_PAUSE_S)
            if not self._retired:
                await asyncio.sleep(self._pause_s)
        self.task.cancel()
        await asyncio.sleep(0)

    async def _one(self) -> None:
        try:
            child = await launch()
        except OSError as error:
            self._report("detection_not_started", level="error", error=str(error))
            return
        why, code, heard = "", 0, b""
        self._alive = True

        async def listen() -> None:
            nonlocal heard
            heard = await child.listen()
            self._alive = False
            self._waiting.wake()

        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(listen())
                try:
                    await self._serve(child)
                except ChildFailed as error:
                    why = str(error)
                finally:
                    child.kill()
        finally:
            code = await child.ended()
        self._tell(child, code, why, heard)

    async def _serve(self, child: Child) -> None:
        """Until it is retired; raises ``ChildFailed``."""
        for spec in self._specs:
            fault = await child.learn(spec)
            if fault is not None:
                self._report("detector_not_built", level="error", reason=fault)
        self.is_ready = self._was_ready = True
        self._report("detection_ready", pid=child.pid)
        self._ready(self)
        while (question := await self._waiting.next(self._going, self._fits)) is not None:
            await self._work(child, question)
        if not self._retired:
            raise ChildFailed("ended")

    async def _work(self, child: Child, question: Question) -> None:
        try:
            fault = await child.learn(question.spec)
            if fault is not None:
                question.fail(fault)
            if not question.open:
                return
            slice_ = question.cut()
            question.take(slice_, await child.search(question.spec, slice_, question.ends_s))
        except ChildFailed as failed:
            question.fail(f"the process that looks for personal data {failed}")
            raise
        except Nonsense as nonsense:
            question.fail(str(nonsense))
            raise ChildFailed("answered nonsense") from None
        if question.open:
            self._waiting.put(question)

    def _fits(self, question: Question) -> bool:
        return kind(question.spec) in self.kinds or self._serves(question)

    def _going(self) -> bool:
        return self._alive and (not self._retired or (self._finishes and self._waiting.pending))

    def _tell(self, child: Child, code: int, why: str, heard: bytes) -> None:
        fields: dict[str, object] = {"pid": child.pid, "exit": code}
        if heard:
            fields["said"] = heard.decode(errors="replace").strip()
        if why:
            fields["reason"] = why
        self._report("detection_ended", level="warning" if why else "info", **fields)


def kind(spec: DetectorSpec) -> Kind:
    """Of detectors that need the same modules and models."""
    return spec.engine, spec.languages, spec.model_path, bool(spec.recognisers)
