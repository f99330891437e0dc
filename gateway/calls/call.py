"""A Call is one upstream answer in the making: it owns the plan, the attempts, usage and payer."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Literal, Protocol

from gateway.calls.continuing import Continuing, Join
from gateway.calls.degraded import Degraded
from gateway.calls.delivered import may_go_on
from gateway.calls.race import race
from gateway.errors import LimitExceeded, Unavailable, UpstreamError
from gateway.events import Frame, Usage
from gateway.exchange import ModelRequest, Operation, Reply
from gateway.routing.attempt import Attempt
from gateway.routing.deployment import Deployment, Group
from gateway.routing.plan import ELSEWHERE, Plan, Step, reason_of
from gateway.routing.quota import slices

CostSource = Literal["provider", "estimated", "cached"]


@dataclass(slots=True)
class Bill:
    """What a Call used and cost.

    ``cost_nanousd``: what providers bill over all attempts. ``charged_nanousd``: what of it counts
    against the tenant: the attempts that gave content, also when left in the middle, or the first
    that was left before any. ``source``: estimated where part of it is. ``priced``: every price was known.
    """

    usage: Usage
    cost_nanousd: int
    charged_nanousd: int
    source: CostSource
    priced: bool


class Payer(Protocol):
    """Who pays for a Call."""

    def opened(self, attempt: Attempt, number: int) -> None:
        """Writes an attempt down before it is made; ``number`` counts from 0. Raises ``Unavailable``."""
        ...

    async def cover(self, deployment: Deployment, charged_nanousd: int) -> None:
        """Makes sure that an attempt there can be paid for, beside what is charged already; raises
        ``LimitExceeded``."""
        ...


class Call:
    """Runs inline in the exchange that opened it. ``close`` is idempotent and synchronous.

    ``answering``: the attempt whose content is relayed, once there is any. ``joins``: where the answer
    was cut and went on. ``degraded``: why the answer is not a model's, None if it is.
    """

    __slots__ = (
        "_any_price",
        "_bill",
        "_closed",
        "_deadline_s",
        "_payer",
        "answering",
        "attempts",
        "degraded",
        "group",
        "joins",
        "request",
    )

    def __init__(
        self,
        group: Group,
        request: ModelRequest,
        deadline_s: float,
        *,
        any_price: bool = False,
        payer: Payer | None = None,
    ) -> None:
        self.group = group
        self.request = request
        self.attempts: list[Attempt] = []
        self.answering: Attempt | None = None
        self.joins: list[Join] = []
        self.degraded: str | None = None
        self._deadline_s = deadline_s
        self._any_price = any_price
        self._payer = payer
        self._bill: Bill | None = None
        self._closed = False

    def waited_s(self, now_s: float) -> float:
        """Seconds spent waiting for first contents, failed attempts included, up to ``now_s``; the time
        in which a hedge ran beside another attempt counts once."""
        waited_s = counted_s = 0.0
        for attempt in self.attempts:
            if attempt.started_s > now_s:
                break
            until_s = attempt.first_content_s or attempt.ended_s or now_s
            waited_s += max(until_s - max(attempt.started_s, counted_s), 0.0)
            counted_s = max(counted_s, until_s)
        return waited_s

    async def open(self) -> Reply:
        """Returns with the first content in hand; raises the last attempt's ``UpstreamError``, or
        ``Unavailable`` when nobody could be called."""
        plan = Plan(self.group, self.request, self._deadline_s, any_price=self._any_price)
        if quotas := self.group.quotas():
            await slices(quotas, plan.tokens)
        try:
            step: Step | None = plan.first(time.monotonic())
            assert step is not None
            if step.group is not self.group:
                await self._cover(step)
            while True:
                attempt = self.begin(step)
                try:
                    self.answering = answering = await self._opened(attempt, plan)
                    if self.group.continues and may_go_on(self.request):
                        return Reply(Continuing(self, answering, plan), stream=True)
                    return Reply(self, stream=self.request.stream)
                except UpstreamError as error:
                    attempt.close()
                    step = plan.after(error, time.monotonic())
                    if step is None or not await self.affords(step):
                        raise self._final(error) from None
                if step.wait_s:
                    await asyncio.sleep(step.wait_s)
        except (UpstreamError, Unavailable) as error:
            return self._instead(error)

    def begin(self, step: Step, request: ModelRequest | None = None) -> Attempt:
        """An attempt that is closed with this Call. ``request``: instead of the client's own."""
        attempt = Attempt(step.group, step.deployment, request or self.request)
        attempt.foreseen_tokens = step.tokens
        self.attempts.append(attempt)
        if self._payer is not None:
            self._payer.opened(attempt, len(self.attempts) - 1)
        return attempt

    async def affords(self, step: Step) -> bool:
        """Whether another attempt can be paid for."""
        try:
            await self._cover(step)
        except LimitExceeded:
            return False
        return True

    async def _cover(self, step: Step) -> None:
        if self._payer is None:
            return
        try:
            await self._payer.cover(step.deployment, self.bill().charged_nanousd)
        except BaseException:
            step.deployment.health.breaker.gave_up()  # it may have been let in as a probe
            raise

    async def _opened(self, attempt: Attempt, plan: Plan) -> Attempt:
        """The attempt that has content: this one, or its hedge."""
        due_s = plan.hedge_after_s(attempt.deployment)
        if due_s is None:
            await attempt.open()
            return attempt

        def hedge() -> Attempt | None:
            step = plan.hedge(time.monotonic())
            return None if step is None else self.begin(step)

        return await race(attempt, due_s, hedge)

    def _final(self, error: UpstreamError) -> UpstreamError:
        """The error that the client gets: after several calls it gains nothing by trying again itself."""
        if len(self.attempts) > 1 and error.status not in (429, 503):
            error.retryable = False
        return error

    def _instead(self, error: UpstreamError | Unavailable) -> Reply:
        """The configured answer for when nobody answers; raises ``error`` where there is none."""
        message = self.group.message
        if message is None or self.request.operation is Operation.EMBEDDING:
            raise error
        if isinstance(error, UpstreamError) and reason_of(error) not in ELSEWHERE:
            raise error
        self.degraded = "message"
        return Reply(
            Degraded(self.request, self.group.name, message),
            stream=self.request.stream,
            headers=[(b"x-gateway-degraded", b"message")],
        )

    @property
    def answered_by(self) -> Deployment | None:
        return None if self.answering is None else self.answering.deployment

    @property
    def first_content_s(self) -> float | None:
        """When the content that the client got began."""
        first = self.joins[0].before if self.joins else self.answering
        return None if first is None else first.first_content_s

    def joined(self, join: Join) -> None:
        """``join.after`` is the attempt whose content is relayed from now on."""
        self.joins.append(join)
        self.answering = join.after

    @property
    def shown(self) -> Attempt | None:
        """The attempt that answers, or the last that was made."""
        return self.answering or (self.attempts[-1] if self.attempts else None)

    def fallbacks(self) -> list[tuple[str, str]]:
        """The groups that the request was passed on to, and why."""
        found, group, reason = [], self.group, "unavailable"
        for attempt in self.attempts:
            if attempt.group is not group and attempt.group is not self.group:
                found.append((attempt.group.name, reason))
            group = attempt.group
            reason = (attempt.error is not None and reason_of(attempt.error)) or "error"
        return found

    async def read(self) -> list[Frame]:
        return await self.answering.read() if self.answering is not None else []

    def close(self) -> None:
        self._closed = True
        self._payer = None
        for attempt in self.attempts:
            attempt.close()

    def bill(self) -> Bill:
        """Final once the answer is complete or the call closed; before that, what is known so far.

        ``usage`` and ``source`` are those of the attempts that gave content, or of all that failed.
        """
        if self._bill is not None:
            return self._bill
        usage, priced = Usage(), True
        payable = self.answering or next((one for one in self.attempts if one.error is None), None)
        source: CostSource = "provider"
        cost = charged = 0
        cut = [join.before for join in self.joins]
        for attempt in self.attempts:
            spent, spent_source = attempt.billed()
            if attempt is self.answering or attempt in cut:
                usage = usage + spent if cut else spent
                source = spent_source if source == "provider" else source
            elif self.answering is None and self.degraded is None:
                usage, source = usage + spent, spent_source
            price = attempt.deployment.price
            if price is None:
                priced = False
                continue
            nanousd = price.cost_nanousd(spent.input, spent.cached_input, spent.output)
            cost += nanousd
            if attempt is payable or attempt in cut:
                charged += nanousd
        bill = Bill(usage, cost, charged, source, priced)
        if self._closed or (self.answering is not None and self.answering.outcome == "ok"):
            self._bill = bill
        return bill
