"""What is reserved for a request is the most that it may use."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.accounting.pricing import Price
from gateway.accounting.tokens import estimate_prompt
from gateway.exchange import ModelRequest, Operation
from gateway.routing.demand import Demand, demand_of, output_cap, rough_demand
from tests.unit.routing_rig import Site

GROUP_CAP = 100  # the rig's


def request(operation: Operation = Operation.CHAT, **fields: Any) -> ModelRequest:
    native = fields.pop("native", {"messages": [{"role": "user", "content": "one two three four"}]})
    return ModelRequest(operation, "m", native, **fields)


def test_the_estimate_of_the_input_has_a_margin() -> None:
    asked = request()
    estimated = estimate_prompt(asked.native)
    demand = demand_of(asked, Site().group())
    assert demand.input_tokens == -(-estimated * 5 // 4)
    assert demand.tokens == demand.input_tokens + GROUP_CAP


@pytest.mark.parametrize(
    ("asked", "cap"),
    [
        (request(), GROUP_CAP),
        (request(max_output_tokens=7), 7),
        (request(max_output_tokens=7, choices=3), 21),
        (request(choices=3), 3 * GROUP_CAP),
        (request(Operation.EMBEDDING, native={"input": "text"}), 0),
        (request(Operation.COMPLETION, native={"prompt": "text"}), GROUP_CAP),
        (request(Operation.COMPLETION, native={"prompt": ["a", "b"]}), 2 * GROUP_CAP),
        (request(Operation.COMPLETION, native={"prompt": ["a", "b"]}, choices=2), 4 * GROUP_CAP),
        (request(Operation.COMPLETION, native={"prompt": [1, 2, 3]}), GROUP_CAP),
        (request(Operation.COMPLETION, native={"prompt": [[1, 2], [3]]}), 2 * GROUP_CAP),
        (request(Operation.COMPLETION, native={"prompt": []}), GROUP_CAP),
        (request(native={"messages": [], "prompt": ["a", "b"]}), GROUP_CAP),
    ],
)
def test_output_by_the_clients_cap_or_the_groups(asked: ModelRequest, cap: int) -> None:
    assert output_cap(asked, Site().group()) == cap


def test_the_dearest_deployment_decides() -> None:
    site = Site()
    cheap, dear = site.deployment("a", price=10**6), site.deployment("b", price=30 * 10**6)
    unknown = site.deployment("c", price=None)
    demand = Demand(10, 5)
    assert demand.cost_nanousd(dear) == 15 * 30
    assert demand.cost_nanousd(unknown) == 0
    assert demand.dearest_nanousd(site.group(cheap, dear, unknown)) == demand.cost_nanousd(dear)
    assert demand.dearest_nanousd(site.group(unknown)) == 0


def test_input_and_output_have_their_own_prices() -> None:
    price = Price.per_mtok(input=2 * 10**6, output=10**7)
    assert price.cost_nanousd(3, 0, 4) == 3 * 2 + 4 * 10


def test_where_nothing_is_measured_the_size_will_do() -> None:
    assert rough_demand(request(), Site().group(), 401) == Demand(101, GROUP_CAP)
    assert rough_demand(request(Operation.EMBEDDING), Site().group(), 0) == Demand(0, 0)
