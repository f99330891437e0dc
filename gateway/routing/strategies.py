"""Which deployment of a group is tried first, which next: one function for each strategy, pure."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.accounting.tokens import estimate_prompt
from gateway.exchange import ModelRequest
from gateway.routing.deployment import Deployment, Random, Strategy

_UNKNOWN_PRICE = 10**30


def ordered(
    deployments: Sequence[Deployment], request: ModelRequest, now_s: float, random: Random
) -> list[Deployment]:
    """As the configuration lists them."""
    return list(deployments)


def weighted(
    deployments: Sequence[Deployment], request: ModelRequest, now_s: float, random: Random
) -> list[Deployment]:
    """At random, in proportion to the weights: sampling without replacement by Efraimidis and
    Spirakis (2006), keys ``u ** (1 / weight)``."""
    return sorted(deployments, key=lambda one: -(random() ** (1.0 / one.weight)))


def least_latency(
    deployments: Sequence[Deployment], request: ModelRequest, now_s: float, random: Random
) -> list[Deployment]:
    """By expected time to the first event and what is waiting already; the unknown are tried first."""
    return sorted(
        deployments,
        key=lambda one: (one.health.latency.estimate_s(now_s) * (1 + one.health.in_flight), random()),
    )


def least_busy(
    deployments: Sequence[Deployment], request: ModelRequest, now_s: float, random: Random
) -> list[Deployment]:
    """By running calls in proportion to the weights."""
    return sorted(deployments, key=lambda one: (one.health.in_flight / one.weight, random()))


def lowest_cost(
    deployments: Sequence[Deployment], request: ModelRequest, now_s: float, random: Random
) -> list[Deployment]:
    """By price of the estimated input and the longest output; unknown prices last."""
    input_tokens = estimate_prompt(request.native)
    output_tokens = (request.max_output_tokens or 1024) * request.choices

    def cost(one: Deployment) -> int:
        if one.price is None:
            return _UNKNOWN_PRICE
        return one.price.cost_nanousd(input_tokens, 0, output_tokens)

    return sorted(deployments, key=lambda one: (cost(one), random()))


STRATEGIES: dict[str, Strategy] = {
    "ordered": ordered,
    "weighted": weighted,
    "least_latency": least_latency,
    "least_busy": least_busy,
    "lowest_cost": lowest_cost,
}
