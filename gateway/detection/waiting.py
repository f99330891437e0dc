"""Questions that wait for a child: short ones and long ones take turns, and so do the long ones."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from gateway.detection.question import Question
from gateway.privacy.interface import DetectorFailed

MOST_CHARS = 64 << 20
_EACH_CHARS = 1024
"""What a question counts for beside its texts."""


class Waiting:
    """Bounded by the characters of all questions that have no answer yet."""

    def __init__(self) -> None:
        self._lanes: tuple[deque[Question], deque[Question]] = (deque(), deque())
        self._questions: set[Question] = set()
        self._turn = False
        self._chars = 0
        self._some = asyncio.Event()

    @property
    def pending(self) -> bool:
        """Whether somebody waits for an answer."""
        return bool(self._questions)

    def add(self, question: Question) -> None:
        """Raises ``DetectorFailed``. Whoever adds a question says ``forget`` in the end."""
        if self._chars + question.chars > MOST_CHARS:
            raise DetectorFailed("too much text waits to be searched")
        self._chars += question.chars + _EACH_CHARS
        self._questions.add(question)
        self.put(question)

    def put(self, question: Question) -> None:
        """At the end; again, when a slice is done."""
        self._lanes[not question.short].append(question)
        self._some.set()

    def forget(self, question: Question) -> None:
        """It needs no answer any more."""
        question.close()
        self._questions.discard(question)
        self._chars -= question.chars + _EACH_CHARS
        if not self._questions:
            self.wake()

    def fail(self, why: str) -> None:
        """All of them."""
        for question in self._questions:
            question.fail(why)

    async def next(self, going: Callable[[], bool], fits: Callable[[Question], bool]) -> Question | None:
        """The next one to work at of those that ``fits`` says yes to; None as soon as ``going`` says no,
        asked at each ``wake``."""
        while going():
            question = self._pop(fits)
            if question is not None:
                return question
            self._some.clear()
            await self._some.wait()
        return None

    def wake(self) -> None:
        self._some.set()

    def _pop(self, fits: Callable[[Question], bool]) -> Question | None:
        self._turn = not self._turn
        for lane in (self._lanes[self._turn], self._lanes[not self._turn]):
            left: list[Question] = []
            try:
                while lane:
                    question = lane.popleft()
                    if not question.open:
                        continue
                    if fits(question):
                        return question
                    left.append(question)
            finally:
                lane.extendleft(reversed(left))
        return None
