"""The most that a request may use: what is reserved for it."""

from __future__ import annotations

from typing import NamedTuple

from gateway.accounting.tokens import estimate_prompt, estimate_tokens_from_bytes
from gateway.exchange import ModelRequest, Operation
from gateway.routing.deployment import Deployment, Group

MARGIN = 4
"""One token in so many is added to the estimate of the input, which may be too low."""


class Demand(NamedTuple):
    """``output_tokens``: over all choices."""

    input_tokens: int
    output_tokens: int

    @property
    def tokens(self) -> int:
        return self.input_tokens + self.output_tokens

    def cost_nanousd(self, deployment: Deployment) -> int:
        """At this deployment, 0 where no price is known."""
        price = deployment.price
        return 0 if price is None else price.cost_nanousd(self.input_tokens, 0, self.output_tokens)

    def dearest_nanousd(self, group: Group) -> int:
        """At the dearest deployment of the group."""
        return max(map(self.cost_nanousd, group.deployments))


def demand_of(request: ModelRequest, group: Group) -> Demand:
    """Never raises; input that holds no text counts as its estimate says."""
    estimated = estimate_prompt(request.native)
    return Demand(estimated + -(-estimated // MARGIN), output_cap(request, group))


def rough_demand(request: ModelRequest, group: Group, body_bytes: int) -> Demand:
    """Where nothing is measured by it: the input by the size of the body alone."""
    return Demand(estimate_tokens_from_bytes(body_bytes), output_cap(request, group))


def output_cap(request: ModelRequest, group: Group) -> int:
    """Output tokens over all choices, by the client's own cap, else the group's."""
    if request.operation is Operation.EMBEDDING:
        return 0
    cap = request.max_output_tokens or group.max_output_tokens
    return cap * request.choices * _prompts(request)


def _prompts(request: ModelRequest) -> int:
    """A completion may have many prompts, each with answers of its own; token ids are one prompt."""
    if request.operation is not Operation.COMPLETION:
        return 1
    prompt = request.native.get("prompt")
    if not isinstance(prompt, list) or not prompt or isinstance(prompt[0], int):
        return 1
    return len(prompt)
