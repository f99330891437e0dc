"""The budget of uploads."""

from __future__ import annotations

import pytest

from gateway.control.bytes_in_flight import BytesInFlight
from gateway.errors import Unavailable


def test_one_tenant_has_a_quarter() -> None:
    budget = BytesInFlight(100)
    budget.take(25, "a")
    with pytest.raises(Unavailable):
        budget.take(1, "a")
    for tenant in "bcd":
        budget.take(25, tenant)
    with pytest.raises(Unavailable):
        budget.take(1, "e")
    budget.give(25, "a")
    budget.take(20, "e")
    assert budget.held == 95
    for tenant, size in [("b", 25), ("c", 25), ("d", 25), ("e", 20)]:
        budget.give(size, tenant)
    assert budget.held == 0
