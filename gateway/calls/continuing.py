"""A streamed answer that is cut after its first content, and gone on with by somebody else."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.calls.delivered import Delivered
from gateway.calls.echo import Echo
from gateway.calls.seam import Seam
from gateway.errors import UpstreamError
from gateway.events import Frame
from gateway.providers.prefill import continued, sent_of
from gateway.routing.attempt import Attempt
from gateway.routing.plan import Plan, Step

if TYPE_CHECKING:
    from gateway.calls.call import Call


@dataclass(slots=True, frozen=True)
class Join:
    """``after`` went on where ``before`` was cut, behind ``after_bytes`` of text (UTF-8)."""

    before: Attempt
    after: Attempt
    after_bytes: int


class Continuing:
    """The source of a Call whose answer may go on elsewhere. It knows what the client has; while an
    attempt that goes on has nothing new to show, the Call's answer is still the one that was cut."""

    __slots__ = ("_attempt", "_call", "_cut", "_delivered", "_ended", "_plan", "_seam")

    def __init__(self, call: Call, answering: Attempt, plan: Plan) -> None:
        self._call = call
        self._attempt = answering
        self._plan = plan
        self._delivered = Delivered()
        self._seam: Seam | None = None
        self._cut: UpstreamError | None = None
        self._ended = False

    async def read(self) -> list[Frame]:
        """Raises what cut the answer when nobody goes on."""
        while True:
            try:
                frames = await self._attempt.read()
                if self._seam is None:
                    self._delivered.note(frames)
                    return frames
                shown = self._seam.feed(frames) if frames else self._end(self._seam)
            except UpstreamError as error:
                cut = self._cut_by(error)
                if await self._goes_on(error):
                    continue
                raise cut from None
            if shown:
                self._show(shown)
            if shown or not frames:
                return shown

    def _cut_by(self, error: UpstreamError) -> UpstreamError:
        """What the client is told: an attempt that it saw nothing of did not cut its answer."""
        if self._cut is None or self._attempt is self._call.answering:
            self._cut = error
        return self._cut

    async def _goes_on(self, error: UpstreamError) -> bool:
        """Whether somebody else has the rest in hand."""
        self._attempt.close()
        if not self._delivered.usable or not await self._may_pass(self._delivered.text):
            return False
        step = self._plan.after_cut(error, time.monotonic())
        while step is not None and await self._call.affords(step):
            if step.wait_s:
                await asyncio.sleep(step.wait_s)
            attempt = self._begin(step)
            try:
                await attempt.open()
                return True
            except UpstreamError as failure:
                attempt.close()
                step = self._plan.after(failure, time.monotonic())
        return False

    async def _may_pass(self, text: str) -> bool:
        """Whether another provider may be told ``text``, if there is any."""
        may_pass = self._call.request.may_pass
        return bool(text.strip()) and (may_pass is None or await may_pass(text))

    def _begin(self, step: Step) -> Attempt:
        prefill, text = step.deployment.provider.prefill, self._delivered.text
        sent = sent_of(prefill, text)
        before = self._call.bill().usage
        self._seam = Seam(self._delivered.identity, before, Echo(sent, text[len(sent) :]))
        self._attempt = self._call.begin(step, continued(self._call.request, prefill, sent))
        return self._attempt

    def _show(self, frames: list[Frame]) -> None:
        """The client gets ``frames``: from the first of them on, the attempt is the one that answers."""
        before = self._call.answering
        if before is not None and before is not self._attempt:
            self._call.joined(Join(before, self._attempt, self._delivered.size_bytes))
        self._delivered.note(frames)

    def _end(self, seam: Seam) -> list[Frame]:
        if self._ended:
            return []
        self._ended = True
        wanted = self._call.request.wants_usage
        return seam.end(self._call.bill().usage if wanted else None)
