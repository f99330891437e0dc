"""A Call is one upstream answer in the making: it owns the plan, the attempts, usage and payer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gateway.errors import Unavailable, UpstreamError
from gateway.events import Frame, Usage
from gateway.exchange import ModelRequest, Reply
from gateway.routing.attempt import Attempt
from gateway.routing.deployment import Group
from gateway.routing.router import plan

CostSource = Literal["provider", "estimated", "cached"]


@dataclass(slots=True)
class Bill:
    """What a Call used and cost. ``cost_nanousd``: what providers bill over all attempts;
    ``charged_nanousd``: what of it counts against the tenant (the attempt that gave content, also
    when it was left in the middle). ``priced``: every price was known."""

    usage: Usage
    cost_nanousd: int
    charged_nanousd: int
    source: CostSource
    priced: bool


class Call:
    """Runs inline in the exchange that opened it. ``close`` is idempotent and synchronous.

    ``answering``: the attempt whose content is relayed, once there is any.
    """

    __slots__ = ("_bill", "_closed", "answering", "attempts", "group", "request")

    def __init__(self, group: Group, request: ModelRequest) -> None:
        self.group = group
        self.request = request
        self.attempts: list[Attempt] = []
        self.answering: Attempt | None = None
        self._bill: Bill | None = None
        self._closed = False

    @property
    def last(self) -> Attempt | None:
        """The attempt that answers, or the last that failed."""
        return self.attempts[-1] if self.attempts else None

    def waited_s(self, now_s: float) -> float:
        """Seconds spent waiting for first contents, failed attempts included, up to ``now_s``."""
        return sum(
            (attempt.first_content_s or attempt.ended_s or now_s) - attempt.started_s
            for attempt in self.attempts
        )

    async def open(self) -> Reply:
        """Returns with the first content in hand; raises the last attempt's ``UpstreamError``."""
        failed: UpstreamError | None = None
        for group, deployment in plan(self.group)[:1]:
            attempt = Attempt(group, deployment, self.request)
            self.attempts.append(attempt)
            try:
                await attempt.open()
            except UpstreamError as error:
                attempt.close()
                failed = error
                continue
            self.answering = attempt
            return Reply(self, stream=self.request.stream)
        raise failed or Unavailable(
            "No deployment can answer for this model.",
            code="no_deployment_available",
            retry_after_s=1,
        )

    async def read(self) -> list[Frame]:
        return await self.answering.read() if self.answering is not None else []

    def close(self) -> None:
        self._closed = True
        for attempt in self.attempts:
            attempt.close()

    def bill(self) -> Bill:
        """Final once the answer is complete or the call closed; before that, what is known so far."""
        if self._bill is not None:
            return self._bill
        usage, priced = Usage(), True
        source: CostSource = "provider"
        cost = charged = 0
        for attempt in self.attempts:
            spent, source = attempt.billed()
            usage = spent if len(self.attempts) == 1 else usage + spent
            price = attempt.deployment.price
            if price is None:
                priced = False
                continue
            nanousd = price.cost_nanousd(spent.input, spent.cached_input, spent.output)
            cost += nanousd
            if attempt is self.answering or attempt.error is None:
                charged += nanousd
        bill = Bill(usage, cost, charged, source, priced)
        if self._closed or (self.answering is not None and self.answering.outcome == "ok"):
            self._bill = bill
        return bill
