"""One try of one deployment: from the request to frames that may be relayed."""

from __future__ import annotations

import asyncio
import time
from typing import Literal

from gateway.accounting.tokens import estimate_prompt, estimate_tokens_from_bytes
from gateway.errors import Sent, UpstreamAuthError, UpstreamError, UpstreamTimeout
from gateway.events import Frame, Usage
from gateway.exchange import ModelRequest, Operation
from gateway.providers import errors as provider_errors
from gateway.providers.transport import Call as UpstreamCall
from gateway.routing.answer import Answer, answer_for
from gateway.routing.deployment import DEFAULT_FIRST_EVENT_S, Deployment, Group
from gateway.routing.health import LONGEST_ALONE_S
from gateway.routing.watch import Watch

ERROR_BODY_CAP = 64 * 1024
# An answer of which nothing was seen is billed as if the model had written this fast: the upper half
# of the output speeds that providers of large models publish.
ASSUMED_TOKENS_PER_S = 60
LIMITED_S = 10.0
"""Without a hint, a rate limit leaves the deployment alone for this long."""
UNUSABLE_S = 60.0
"""The same for a credential that is refused, or whose quota is used up."""


class Attempt:
    """``open`` returns with the first content in hand, or raises the ``UpstreamError`` that says how
    far it came; until then nothing of this attempt has reached the client. ``read`` gives the frames
    of one upstream read, an empty list at a good end, and raises when the answer is cut.

    Times are of ``time.monotonic()``, in seconds. ``status``: the provider's.
    ``foreseen_tokens``: counted against the deployment's quota.
    """

    __slots__ = (
        "_answer",
        "_call",
        "_era",
        "_held",
        "_judged",
        "_waiting",
        "_watch",
        "deployment",
        "ended_s",
        "error",
        "first_content_s",
        "foreseen_tokens",
        "group",
        "request",
        "started_s",
        "status",
    )

    def __init__(self, group: Group, deployment: Deployment, request: ModelRequest) -> None:
        self.group = group
        self.deployment = deployment
        self.request = request
        self.status: int | None = None
        self.foreseen_tokens = 0
        self.error: UpstreamError | None = None
        self.first_content_s: float | None = None
        self.ended_s: float | None = None
        self.started_s = time.monotonic()
        self._call: UpstreamCall | None = None
        self._answer: Answer | None = None
        self._held: list[Frame] = []
        self._waiting = False
        self._judged = False
        self._era = deployment.health.breaker.era
        deployment.health.began()
        self._watch = Watch(asyncio.get_running_loop(), self._expired)

    @property
    def outcome(self) -> str:
        """For metrics and rows: ``ok``, an error's code, or ``left`` (given up by us)."""
        if self.error is not None:
            return self.error.code
        return "ok" if self._answer is not None and self._answer.complete else "left"

    async def open(self) -> None:
        provider = self.deployment.provider
        body = provider.body(self.request, self.deployment.model)
        self._call = call = provider.transport.call(provider.target(self.request.operation), body)
        first_s = self.group.timeouts.first_event_s
        if self.request.stream or first_s is not None:
            self._watch.extend(first_s or DEFAULT_FIRST_EVENT_S)
        self._waiting = True
        try:
            await call.open(self.group.timeouts.connect_s)
            self.status = call.status
            if not 200 <= call.status < 300:
                raise await self._refused(call)
            self._answer = self._expected(call)
            self._held = await self._next(call, self._answer)
        except UpstreamError as error:
            self._failed(error)
            raise
        finally:
            self._waiting = False
        self.first_content_s = now_s = time.monotonic()
        health = self.deployment.health
        health.answered(now_s, now_s - self.started_s)
        if health.breaker.state() != "closed":  # the next probe need not wait for this one's end
            self._judged = True
            health.breaker.succeeded(now_s, self._era)

    async def read(self) -> list[Frame]:
        if self._held:
            frames, self._held = self._held, []
            return frames
        call, answer = self._call, self._answer
        if call is None or answer is None or answer.complete:
            return []
        self._watch.extend(self.group.timeouts.idle_s)
        self._waiting = True
        try:
            return await self._next(call, answer)
        except UpstreamError as error:
            self._failed(error)
            raise
        finally:
            self._waiting = False

    def close(self) -> None:
        """Idempotent. A finished answer's connection goes back to the pool, another is cut at once."""
        self._watch.close()
        if self.ended_s is None:
            self.ended_s = time.monotonic()
            self.deployment.health.ended()
            self._used()
            if not self._judged:
                self._judge(self.ended_s)
        if self._call is not None:
            complete = self._answer is not None and self._answer.complete
            self._call.finish() if complete else self._call.close()

    def _used(self) -> None:
        """What was counted against the quota and not used is there again."""
        if self.deployment.quota is not None:
            usage, _ = self.billed()
            self.deployment.quota.used(self.foreseen_tokens, usage.input + usage.output)

    def _judge(self, now_s: float) -> None:
        """Of a call that did not fail. A good beginning is told at the end, so that an answer that breaks
        off afterwards is a failure, and not a success before it."""
        breaker = self.deployment.health.breaker
        if self.first_content_s is None:
            breaker.gave_up(self._era)
        else:
            breaker.succeeded(now_s, self._era)

    def billed(self) -> tuple[Usage, Literal["provider", "estimated"]]:
        """What the provider bills for this attempt, and its source: ``provider`` or ``estimated``."""
        answer = self._answer
        if answer is not None and answer.usage is not None:
            return answer.usage, "provider"
        if self._call is None or not self._call.asked or not self._worked():
            return Usage(), "estimated"
        return Usage(estimate_prompt(self.request.native), self._estimated_output()), "estimated"

    @property
    def text_bytes(self) -> int:
        """UTF-8 bytes of text so far."""
        return 0 if self._answer is None else self._answer.text_bytes

    @property
    def usage_rejected(self) -> bool:
        return self._answer is not None and self._answer.usage_rejected

    def _worked(self) -> bool:
        """Whether the provider may have generated anything; a refusal with a status is free."""
        if self._answer is not None:
            return True
        return self.error is None or (self.error.sent is Sent.AMBIGUOUS and self.status is None)

    def _estimated_output(self) -> int:
        if self.request.operation is Operation.EMBEDDING:
            return 0
        if self._answer is not None and self._answer.text_bytes:
            return estimate_tokens_from_bytes(self._answer.text_bytes)
        elapsed_s = (self.ended_s or time.monotonic()) - self.started_s
        most = (self.request.max_output_tokens or self.group.max_output_tokens) * self.request.choices
        return min(int(elapsed_s * ASSUMED_TOKENS_PER_S), most)

    def _expected(self, call: UpstreamCall) -> Answer:
        content_type = (call.header(b"content-type") or b"").lower()
        return answer_for(
            self.request, content_type, self.group.response_cap_bytes, self.group.event_cap_bytes
        )

    async def _next(self, call: UpstreamCall, answer: Answer) -> list[Frame]:
        """The next frames that may be relayed; an empty list once the answer is complete."""
        while not answer.complete:
            block = await call.read()
            frames = answer.feed(block) if block else answer.end()
            if frames:
                return frames
        return []

    async def _refused(self, call: UpstreamCall) -> UpstreamError:
        try:
            body = await call.read_up_to(ERROR_BODY_CAP)
        except UpstreamError:
            body = b""  # the status alone decides then

        def header(name: str) -> str | None:
            value = call.header(name.encode())
            return None if value is None else value.decode("latin-1")

        return provider_errors.refusal(call.status, header, body)

    def _failed(self, error: UpstreamError) -> None:
        """Learns from a failure what it says about the deployment."""
        self.error = error
        self._judged = True
        health, now_s = self.deployment.health, time.monotonic()
        others = self.group.may_leave(self.deployment, now_s)
        if error.blames_deployment:
            health.failed(now_s, self._era, may_open=others)
        else:
            health.breaker.gave_up(self._era)
        pause_s = _pause_s(error, others)
        if pause_s:
            limited = error.code == "upstream_rate_limited"
            health.cooldown.extend(now_s, pause_s, (error.hint_s or 0.0) if limited else 0.0)
        if error.refuses_credential:  # who has nobody else asks nevertheless: the plan sees to that
            health.account.refused.extend(now_s, UNUSABLE_S if error.hint_s is None else error.hint_s)

    def _expired(self) -> None:
        if not self._waiting:
            self._watch.extend(self.group.timeouts.idle_s)
        elif self._call is not None:
            which = "first" if self.first_content_s is None else "next"
            self._call.abort(UpstreamTimeout(f"The provider's {which} event did not come in time."))


def _pause_s(error: UpstreamError, others: bool) -> float:
    """How long to leave a deployment alone after ``error``; ``others``: there are some."""
    if error.code != "upstream_rate_limited" and not isinstance(error, UpstreamAuthError):
        return 0.0
    if not others:
        return min(error.hint_s or 0.0, LONGEST_ALONE_S)
    if error.hint_s is not None:
        return error.hint_s
    return UNUSABLE_S if error.sent is Sent.HARD else LIMITED_S
