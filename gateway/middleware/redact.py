"""Personal data leaves a request before anything remembers it or sends it on, and comes back at the end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, TypeVar

import orjson

from gateway.detection import Detection
from gateway.errors import Forbidden, GatewayError, InvalidRequest, Unavailable
from gateway.events import Frame
from gateway.exchange import Exchange, Operation, Outcome, Source
from gateway.privacy.chunk_json import encoded
from gateway.privacy.chunks import AnswerEditor
from gateway.privacy.interface import Blocked, DetectorFailed, Match, PartlyFailed, TooManyFinds
from gateway.privacy.policy import Policy
from gateway.privacy.redaction import Redaction
from gateway.privacy.slots import OPENAI_REQUEST, Shape
from gateway.privacy.streaming import Restorer
from gateway.privacy.walk import Body, restore_body
from gateway.privacy.weight import weight
from gateway.stage import Stage
from gateway.telemetry.metrics import Metrics

T = TypeVar("T")
LARGE = 32 * 1024
"""Bytes of a body beyond which it is walked in another thread."""
LOGPROBS, MODALITIES = "logprobs", "modalities"
_NOTHING = Stage()
_TABLES: dict[Operation, Shape] = {
    Operation.CHAT: OPENAI_REQUEST,
    Operation.COMPLETION: OPENAI_REQUEST,
    Operation.EMBEDDING: OPENAI_REQUEST,
}


class Redact:
    """Behind Limits, so that nobody searches for free; before all that keeps requests or answers."""

    def __init__(self, detection: Detection, metrics: Metrics) -> None:
        self.detection = detection
        self.metrics = metrics

    def begin(self, exchange: Exchange) -> Stage:
        assert exchange.route is not None
        policy = exchange.route.policy
        return _NOTHING if policy is None else _Redacting(exchange, policy, self)


class _Redacting(Stage):
    __slots__ = ("_exchange", "_policy", "_redact", "_redaction")

    def __init__(self, exchange: Exchange, policy: Policy, redact: Redact) -> None:
        self._exchange = exchange
        self._policy = policy
        self._redact = redact
        self._redaction = Redaction(policy)

    async def enter(self) -> None:
        """Raises ``Forbidden`` and ``Unavailable``."""
        exchange, redaction = self._exchange, self._redaction
        assert exchange.request is not None
        exchange.redaction = redaction
        native = exchange.request.native
        if self._policy.outputs:
            if self._policy.protects:
                exchange.request.may_pass = self._may_pass
            for kind in unsearchable(native, self._policy):
                self._skip(kind, 1)
        if not self._policy.inputs:
            return
        try:
            await self._search(native, exchange.body_bytes > LARGE)
        except Blocked as blocked:
            raise refusal(blocked, redaction) from blocked
        except DetectorFailed as failed:
            redaction.failed_in = True
            if self._policy.on_failure == "refuse":
                refused = _too_many() if isinstance(failed, TooManyFinds) else refusal(failed, redaction)
                raise refused from failed

    async def _may_pass(self, text: str) -> bool:
        policy = self._policy
        try:
            found = await self._redact.detection.find(policy.detector, [text], policy.budget_s)
        except DetectorFailed:
            return policy.on_failure == "pass"
        return all(policy.actions.of(match.entity) == "flag" for matches in found for match in matches)

    async def _search(self, native: dict[str, Any], large: bool) -> None:
        assert self._exchange.request is not None
        table = _TABLES[self._exchange.request.operation]
        body = await asyncio.to_thread(Body, native, table) if large else Body(native, table)
        for kind, count in body.skipped.items():
            self._skip(kind, count)
        found = await found_in(self._redact.detection, self._policy, body.texts, self._passed)
        placeholders = self._redaction.placeholders
        if large:
            await asyncio.to_thread(body.redact, found, placeholders)
        else:
            body.redact(found, placeholders)

    def _passed(self) -> None:
        self._redaction.failed_in = True

    def _skip(self, kind: str, count: int) -> None:
        if self._policy.uncovered == "refuse" and self._policy.protects:
            self._redaction.blocked = kind
            raise Forbidden(
                f"This request holds '{kind}', which is not searched for personal data; this tenant does"
                " not let such parts pass.",
                code="redaction_blocked",
                param=kind,
            )
        self._redaction.skipped[kind] += count

    def relay(self, source: Source, stream: bool) -> Source:
        redaction = self._redaction
        redaction.answered = self._exchange.operation is not Operation.EMBEDDING  # numbers
        if not redaction.placeholders.restores:
            return source
        shape = _Opening if stream else _Opened
        return _Guard(shape(source, redaction), redaction)

    def close(self, outcome: Outcome) -> None:
        exchange, redaction, metrics = self._exchange, self._redaction, self._redact.metrics
        assert exchange.key is not None
        tenant = exchange.key.tenant.name
        for direction, found in (("input", redaction.found_in), ("output", redaction.found_out)):
            for entity, count in found.items():
                metrics.redactions.child(tenant, entity, direction).inc(count)
        for kind, count in (*redaction.skipped.items(), *redaction.skipped_out.items()):
            metrics.redaction_skipped.child(kind).inc(count)
        if redaction.passed_unsearched:
            metrics.redaction_skipped.child("detector_failed").inc()


class _Guard:
    """An answer that cannot be read cannot be restored."""

    def __init__(self, source: Source, redaction: Redaction) -> None:
        self._source = source
        self._redaction = redaction

    async def read(self) -> list[Frame]:
        try:
            return await self._source.read()
        except DetectorFailed as failed:
            self._redaction.failed_out = True
            raise refusal(failed, self._redaction) from failed


class _Opened:
    """A buffered answer."""

    def __init__(self, source: Source, redaction: Redaction) -> None:
        self._source = source
        self._redaction = redaction

    async def read(self) -> list[Frame]:
        frames = await self._source.read()
        for frame in frames:
            native = decoded(frame)
            if native is not None:
                await _apart(partial(self._open, frame, native), weight(frame))
        return frames

    def _open(self, frame: Frame, native: dict[str, Any]) -> None:
        try:
            restore_body(native, self._redaction.placeholders)
            frame.raw = encoded(native)
        except DetectorFailed:
            self._redaction.failed_out = True
            if self._redaction.policy.on_failure == "refuse":
                raise


class _Opening:
    """A streamed one."""

    def __init__(self, source: Source, redaction: Redaction) -> None:
        self._source: Source | None = source
        placeholders = redaction.placeholders
        self._editor = AnswerEditor(lambda json: Restorer(placeholders, json=json))

    async def read(self) -> list[Frame]:
        while self._source is not None:
            frames = await self._source.read()
            if not frames:
                self._source = None
                return self._editor.flush()
            if frames := await _apart(partial(self._editor.feed, frames), sum(map(weight, frames))):
                return frames
        return []


async def _apart(work: Callable[[], T], chars: int) -> T:
    """What ``work`` gives: in another thread if it is about many characters."""
    return await asyncio.to_thread(work) if chars > LARGE else work()


async def found_in(
    detection: Detection, policy: Policy, texts: Sequence[str], passed: Callable[[], None]
) -> list[list[Match]]:
    """What is found in each of ``texts``; also what is found where a part of the search failed, if the
    policy lets that pass: then ``passed`` is called. Raises ``DetectorFailed``."""
    try:
        return await detection.find(policy.detector, texts, policy.budget_s)
    except PartlyFailed as failed:
        if policy.on_failure == "refuse":
            raise
        passed()
        return failed.found


def decoded(frame: Frame) -> dict[str, Any] | None:
    """The JSON object of a buffered answer; None where it is none."""
    if frame.native is None and frame.raw is not None:
        try:
            native = orjson.loads(frame.raw)
        except orjson.JSONDecodeError:
            return None
        frame.native = native if isinstance(native, dict) else None
    return frame.native


def unsearchable(native: dict[str, Any], policy: Policy) -> Iterator[str]:
    """What a request asks for that cannot be searched in the answer, by the names of its fields."""
    if policy.replaces and native.get(LOGPROBS) not in (None, False):
        yield LOGPROBS
    asked = native.get(MODALITIES)
    if isinstance(asked, list) and any(one != "text" for one in asked):
        yield MODALITIES


def _too_many() -> InvalidRequest:
    return InvalidRequest(
        "This request holds more personal data than is searched for at once; send it in several requests."
    )


def refusal(stopped: Blocked | DetectorFailed, redaction: Redaction) -> GatewayError:
    """What the client is told."""
    if isinstance(stopped, Blocked):
        redaction.blocked = stopped.entity
        return Forbidden(
            f"Personal data of the kind {stopped.entity} was found, which this tenant does not let pass.",
            code="redaction_blocked",
        )
    return Unavailable(
        "The search for personal data failed, and nothing passes without it.",
        code="redaction_unavailable",
        retry_after_s=1,
        detail=str(stopped),
    )
