"""Groups without providers, for what is decided without I/O."""

from __future__ import annotations

from typing import Any

from gateway.accounting.pricing import Price
from gateway.exchange import ModelRequest, Operation
from gateway.providers.prefill import Prefill
from gateway.routing.breaker import BreakerPolicy
from gateway.routing.deployment import Deployment, Group, Timeouts
from gateway.routing.health import Learned
from gateway.routing.retry import RetryPolicy
from gateway.routing.strategies import STRATEGIES

REQUEST = ModelRequest(Operation.CHAT, "m", {"model": "m", "messages": [{"role": "user", "content": "hi"}]})


class Named:
    """As much of a provider as routing looks at."""

    kind = "openai"
    transport: Any = None

    def __init__(self, name: str, prefill: Prefill) -> None:
        self.name = self.account = name
        self.prefill = prefill

    def target(self, operation: Operation) -> Any:
        raise AssertionError("nothing is called here")

    def body(self, request: ModelRequest, model: str) -> bytes:
        raise AssertionError("nothing is called here")


class Site:
    def __init__(self) -> None:
        self.states: list[tuple[str, str]] = []
        self.learned = Learned(lambda name, state: self.states.append((name, state)))

    def deployment(
        self,
        id: str,
        provider: str = "",
        price: int | None = 1,
        *,
        prefill: Prefill = "none",
        **more: Any,
    ) -> Deployment:
        rates = None if price is None else Price.per_mtok(input=price, output=price)
        provider = provider or f"provider-of-{id}"
        health = self.learned.health(id, provider, "model", BreakerPolicy())
        return Deployment(id, Named(provider, prefill), "model", rates, health, **more)

    def group(
        self, *deployments: Deployment, name: str = "m", strategy: str = "ordered", **more: Any
    ) -> Group:
        policy = more.pop("retry", RetryPolicy())
        fallback_on = frozenset(more.pop("fallback_on", ("error", "rate_limit", "timeout")))
        return Group(
            name,
            deployments,
            STRATEGIES[strategy],
            Timeouts(),
            policy,
            self.learned.budget(name, policy),
            fallback_on,
            100,
            1 << 20,
            1 << 16,
            **more,
        )
