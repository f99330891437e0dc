"""Personal data that a provider wrote itself is masked before anything remembers the answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any
from weakref import WeakSet

from gateway.detection import Detection
from gateway.detection.detection import most_streamed
from gateway.detection.turns import Effort
from gateway.errors import GatewayError
from gateway.events import Frame
from gateway.exchange import Dispatch, Exchange, Operation, Reply, Source
from gateway.middleware.redact import LARGE, decoded, found_in, refusal
from gateway.privacy.chunk_json import encoded
from gateway.privacy.chunks import AnswerEditor
from gateway.privacy.guarded import Guarded, concealed
from gateway.privacy.interface import Blocked, DetectorFailed, Match
from gateway.privacy.policy import Policy
from gateway.privacy.redaction import Redaction
from gateway.privacy.slots import OPENAI_ANSWER
from gateway.privacy.streaming import Masker, Pace
from gateway.privacy.walk import Body
from gateway.privacy.weight import weight
from gateway.stage import Stage

_NOTHING = Stage()


class Screen:
    """Innermost: all other stages see what it lets out."""

    def __init__(self, detection: Detection) -> None:
        self._detection = detection

    def begin(self, exchange: Exchange) -> Stage:
        redaction = exchange.redaction
        if redaction is None or not redaction.policy.outputs or exchange.operation is Operation.EMBEDDING:
            return _NOTHING
        return _Screening(exchange, redaction, self._detection)


class ScreenedDispatch:
    """What providers say where they refuse is an answer, too."""

    def __init__(self, dispatch: Dispatch, detection: Detection) -> None:
        self._dispatch = dispatch
        self._detection = detection

    async def __call__(self, exchange: Exchange) -> Reply:
        try:
            return await self._dispatch(exchange)
        except GatewayError as error:
            if exchange.redaction is not None:
                _conceal(error, exchange.redaction, self._detection)
            raise


class _Screening(Stage):
    __slots__ = ("_detection", "_exchange", "_redaction")

    def __init__(self, exchange: Exchange, redaction: Redaction, detection: Detection) -> None:
        self._exchange = exchange
        self._redaction = redaction
        self._detection = detection

    def relay(self, source: Source, stream: bool) -> Source:
        call = self._exchange.call
        if call is None or call.degraded is not None:  # what the operator has written
            return source
        shape = _Stream if stream else _Whole
        errors = _Errors(source, self._redaction, self._detection)
        return shape(errors, self._redaction, self._detection)


class _Errors:
    """A source whose errors hold no personal data."""

    def __init__(self, source: Source, redaction: Redaction, detection: Detection) -> None:
        self._source = source
        self._redaction = redaction
        self._detection = detection

    async def read(self) -> list[Frame]:
        try:
            return await self._source.read()
        except GatewayError as error:
            _conceal(error, self._redaction, self._detection)
            raise


def _conceal(error: GatewayError, redaction: Redaction, detection: Detection) -> None:
    """A client is told what it may be told in an answer."""
    policy = redaction.policy
    if policy.outputs and policy.protects:
        detector = detection.detector(policy.detector)
        error.message = concealed(detector, error.message)
        if error.param is not None:
            error.param = concealed(detector, error.param)


class _Stream:
    """A streamed answer: held back only as far as what comes next may belong to what is there."""

    def __init__(self, source: Source, redaction: Redaction, detection: Detection) -> None:
        self._source: Source | None = source
        self._redaction, self._detection = redaction, detection
        policy = redaction.policy
        self._effort = Effort(policy.budget_s)
        passes = self._passed if policy.on_failure == "pass" else None
        self._detector = Guarded(detection.detector(policy.detector), passes, self._effort)
        self._most_chars = most_streamed(policy.detector)
        self._maskers: WeakSet[Masker] = WeakSet()
        self._pace = Pace()
        self._editor = AnswerEditor(
            self._masker, drop_logprobs=_drops(policy), skipped=redaction.skipped_out
        )

    def _masker(self, json: bool) -> Masker:
        masker = Masker(self._detector, self._redaction.answer, json=json, pace=self._pace)
        self._maskers.add(masker)
        return masker

    def _passed(self) -> None:
        self._redaction.failed_out = True

    async def read(self) -> list[Frame]:
        while self._source is not None:
            frames = await self._source.read()
            try:
                if not frames:
                    self._source = None
                    return await self._worked(self._editor.flush, 0)
                edit = partial(self._edited, frames)
                if frames := await self._worked(edit, sum(map(weight, frames))):
                    return frames
            except (Blocked, DetectorFailed) as stopped:
                self._redaction.failed_out = isinstance(stopped, DetectorFailed)
                raise refusal(stopped, self._redaction) from stopped
        return []

    def _edited(self, frames: list[Frame]) -> list[Frame]:
        if len(frames) == 1:
            return self._editor.feed(frames)
        self._pace.hurried = True
        edited = self._editor.feed(frames[:-1])
        self._pace.hurried = False
        return edited + self._editor.feed(frames[-1:])

    async def _worked(self, work: Callable[[], list[Frame]], chars: int) -> list[Frame]:
        """What ``work`` gives, with ``chars`` more characters than are held back; on the loop if few."""
        self._effort.begin()
        if chars + sum(masker.held_chars for masker in self._maskers) <= self._most_chars:
            return work()
        return await self._detection.aside(work, self._effort)


class _Whole:
    """A buffered answer."""

    def __init__(self, source: Source, redaction: Redaction, detection: Detection) -> None:
        self._source = source
        self._redaction = redaction
        self._detection = detection

    async def read(self) -> list[Frame]:
        frames = await self._source.read()
        for frame in frames:
            await self._mask(frame)
        return frames

    def _passed(self) -> None:
        self._redaction.failed_out = True

    async def _mask(self, frame: Frame) -> None:
        native, redaction = decoded(frame), self._redaction
        if native is None:
            return
        large = weight(frame) > LARGE
        policy = redaction.policy
        try:
            body = (
                await asyncio.to_thread(Body, native, OPENAI_ANSWER)
                if large
                else Body(native, OPENAI_ANSWER)
            )
            redaction.skipped_out.update(body.skipped)
            found = await found_in(self._detection, policy, body.texts, self._passed)
            mask = partial(_masked, native, body, found, redaction)
            raw = await asyncio.to_thread(mask) if large else mask()
        except Blocked as blocked:
            raise refusal(blocked, redaction) from blocked
        except DetectorFailed as failed:
            redaction.failed_out = True
            if policy.on_failure == "refuse":
                raise refusal(failed, redaction) from failed
            return
        if policy.protects:  # what was read, and nothing else: a field that was there twice was read once
            frame.raw = raw


def _masked(
    native: dict[str, Any], body: Body, found: Sequence[Sequence[Match]], redaction: Redaction
) -> bytes:
    body.mask(found, redaction.answer, drop_logprobs=_drops(redaction.policy))
    return encoded(native)


def _drops(policy: Policy) -> bool:
    """Whether ``logprobs`` go, whose tokens are pieces of what is masked."""
    return policy.uncovered == "refuse" and policy.replaces
