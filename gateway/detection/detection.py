"""Where a text is searched: at once if it is short, else by a child, within a time."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any, TypeVar

from gateway.detection.messages import Nonsense, check
from gateway.detection.process import Report
from gateway.detection.question import Question
from gateway.detection.searching import search
from gateway.detection.slot import Slot, kind
from gateway.detection.turns import Effort, Threads
from gateway.detection.waiting import Waiting
from gateway.privacy.detectors import build_detector
from gateway.privacy.entities import NAME_ENTITIES
from gateway.privacy.guarded import Noting
from gateway.privacy.interface import Detector, DetectorFailed, DetectorUnusable, Match, PartlyFailed
from gateway.privacy.policy import DetectorSpec

T = TypeVar("T")
Keep = Callable[[Callable[[], Coroutine[Any, Any, None]], str], asyncio.Task[None]]

KIB = 1024
SWITCH_S = 0.001
"""How long a thread may keep the interpreter from the loop, a fifth of what is usual: RE2 gives it up at
every call."""
READY_S = 10.0
"""How long whoever starts is kept waiting for children."""
QUIET_CHARS = 256 * KIB
"""So much is asked at once whether there may be anything in it, by detectors that can tell in no time."""


class Detection:
    """Searches texts by policy: small ones at once, large ones in other processes, within a time.

    ``keep``: runs work that never ends (``Tasks.keep``). ``processes``: how many children there are while
    a policy exists. ``adopt`` may be called before ``start``; ``find`` of a large text needs ``start``.
    """

    def __init__(self, keep: Keep, report: Report, processes: int = 1) -> None:
        self._keep, self._report, self._processes = keep, report, processes
        self._detectors: dict[DetectorSpec, Detector] = {}
        self._wanted: tuple[DetectorSpec, ...] = ()
        self._waiting = Waiting()
        self._slots: list[Slot] = []
        self._threads = Threads()
        self._running = False
        self._first_ready = asyncio.Event()

    def prepare(self, specs: Iterable[DetectorSpec]) -> None:
        """Builds what ``adopt`` needs; takes up to seconds, in any thread. Raises ``DetectorUnusable``."""
        for spec in specs:
            if spec not in self._detectors:
                try:
                    self._detectors[spec] = build_detector(spec)
                except ValueError as error:
                    raise DetectorUnusable(f"redaction: {error}") from error

    def adopt(self, specs: Iterable[DetectorSpec]) -> None:
        """From now on these are asked for; those of the time before are forgotten the next time. Raises
        ``DetectorUnusable``, and changes nothing, if one cannot be built."""
        wanted = tuple(dict.fromkeys(specs))
        self.prepare(wanted)
        kept = dict.fromkeys((*wanted, *self._wanted))
        self._detectors = {spec: self._detectors[spec] for spec in kept}
        if wanted:
            sys.setswitchinterval(SWITCH_S)
        changed = set(wanted) != set(self._wanted)
        self._wanted = wanted
        if self._running and changed:
            self._renew()

    def detector(self, spec: DetectorSpec) -> Detector:
        """In this process. Raises ``DetectorUnusable`` if it cannot be built."""
        self.prepare((spec,))
        return self._detectors[spec]

    async def find(self, spec: DetectorSpec, texts: Sequence[str], budget_s: float) -> list[list[Match]]:
        """The matches in each of ``texts``, in order and without overlaps; nothing if there is none at all.
        Raises ``PartlyFailed`` and other ``DetectorFailed``: the detector crashed or answered nonsense, it
        took more than ``budget_s`` seconds (waiting included), there were too many finds, too
        much text waits."""
        chars = sum(map(len, texts))
        if not chars:
            return []
        try:
            detector = self.detector(spec)
            if chars <= inline_chars(spec):
                return _found_inline(detector, texts)
            if chars <= QUIET_CHARS and _is_quiet(detector, texts):
                return []
        except DetectorFailed:
            raise
        except Nonsense as nonsense:
            raise DetectorFailed(str(nonsense)) from None
        except Exception as error:  # a detector's fault is one request's
            raise DetectorFailed(f"the detector crashed with {type(error).__name__}") from error
        question = Question(spec, detector, texts, slice_chars(spec), budget_s)
        if self._is_awaited(spec):
            return await self._ask_here(question, detector, budget_s)
        return await self._ask(question, budget_s)

    async def aside(self, work: Callable[[], T], effort: Effort) -> T:
        """What ``work`` gives, which may hold the loop and calls ``effort`` now and then; raises what it
        raises."""
        return await self._threads.run(work, effort)

    async def start(self, within_s: float = READY_S) -> None:
        """Waits up to ``within_s`` seconds for a child, if there is a policy."""
        self._running = True
        self._renew()
        if not self._wanted:
            return
        try:
            async with asyncio.timeout(within_s):
                await self._first_ready.wait()
        except TimeoutError:
            if within_s:
                self._report("detection_not_ready", level="warning", waited_s=within_s)

    async def aclose(self) -> None:
        """Ends the children; whoever still waits gets ``DetectorFailed``."""
        self._running = False
        tasks = [slot.task for slot in self._slots]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        self._waiting.fail("the search for personal data was ended")
        self._threads.close()

    async def _ask(self, question: Question, budget_s: float) -> list[list[Match]]:
        self._waiting.add(question)
        try:
            async with asyncio.timeout(budget_s):
                return await question.answer
        except TimeoutError:
            raise DetectorFailed(_late(budget_s)) from None
        finally:
            self._waiting.forget(question)

    async def _ask_here(self, question: Question, detector: Detector, budget_s: float) -> list[list[Match]]:
        """In this process, as long as the children for it are not there."""
        effort = Effort(budget_s)
        try:
            async with asyncio.timeout(budget_s):
                while question.open:
                    slice_ = question.cut()
                    answer = await self.aside(partial(search, detector, asdict(slice_)), effort)
                    question.take(slice_, answer)
                return await question.answer
        except TimeoutError:
            raise DetectorFailed(_late(budget_s)) from None
        except Nonsense as nonsense:
            raise DetectorFailed(str(nonsense)) from None
        except DetectorFailed:
            raise
        except Exception as error:  # a detector's fault is one request's
            raise DetectorFailed(f"the detector crashed with {type(error).__name__}") from error
        finally:
            question.close()

    def _is_awaited(self, spec: DetectorSpec) -> bool:
        """Whether there are children, but those for ``spec`` come only: after a reload."""
        asked = kind(spec)
        serving = [slot for slot in self._slots if slot.is_ready and not slot.retired]
        if not serving or any(asked in slot.kinds for slot in serving):
            return False
        return any(asked in slot.kinds for slot in self._slots if not slot.is_ready)

    def _renew(self) -> None:
        """New children; the old ones serve until those are ready. They are ready when they have built one
        detector of each kind, which is what takes seconds; the others are built when asked for."""
        former = list(self._slots)
        for slot in former:
            if not slot.is_ready:
                slot.task.cancel()
            elif not self._wanted:
                slot.retire(finish=True)
        first = tuple({kind(spec): spec for spec in self._wanted}.values())
        for number in range(self._processes if self._wanted else 0):
            ready = partial(self._is_ready, former)
            slot = Slot(first, self._waiting, self._report, ready, self._is_strange)
            slot.task = self._keep(slot.run, f"detection {number + 1}")
            slot.task.add_done_callback(partial(self._is_gone, slot))
            self._slots.append(slot)

    def _is_ready(self, former: list[Slot], slot: Slot) -> None:
        """It takes the place of those before it."""
        self._first_ready.set()
        while former:
            former.pop().retire()

    def _is_strange(self, question: Question) -> bool:
        """Whether no child is or will be there for what a question is about: it is of a time before."""
        asked = kind(question.spec)
        return not any(asked in slot.kinds for slot in self._slots if not slot.retired)

    def _is_gone(self, slot: Slot, task: asyncio.Task[None]) -> None:
        self._slots.remove(slot)


def _late(budget_s: float) -> str:
    return f"looking for personal data took more than {budget_s:g} s"


def inline_chars(spec: DetectorSpec) -> int:
    """Up to so many characters take about a millisecond: less than a child is worth."""
    if spec.engine == "fast":
        return 8 * KIB
    if _has_model(spec):
        return 0
    return 2 * KIB if spec.scan == "flagged" else KIB


def most_streamed(spec: DetectorSpec) -> int:
    """Up to so many characters of a streamed answer are searched on the loop: ten milliseconds at worst."""
    return min(2 * KIB, inline_chars(spec))


def slice_chars(spec: DetectorSpec) -> int:
    """How much a child searches before others have their turn."""
    if spec.engine == "fast":
        return 64 * KIB
    return 4 * KIB if _has_model(spec) else 16 * KIB


def _has_model(spec: DetectorSpec) -> bool:
    return spec.model_path is not None and not NAME_ENTITIES.isdisjoint(spec.entities)


def _found_inline(detector: Detector, texts: Sequence[str]) -> list[list[Match]]:
    if len(texts) > 1 and _is_quiet(detector, texts):
        return []
    noting = Noting(detector)
    found = [noting.find(text) for text in texts]
    for text, matches in zip(texts, found, strict=True):
        check(matches, len(text), detector.entities)
    if noting.fault is not None:
        raise PartlyFailed(noting.fault, found)
    return found if any(found) else []


def _is_quiet(detector: Detector, texts: Sequence[str]) -> bool:
    quiet: Callable[[Sequence[str]], bool] | None = getattr(detector, "quiet", None)
    return quiet is not None and quiet(texts)
