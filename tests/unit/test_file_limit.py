"""Connections and open files."""

from __future__ import annotations

import pytest

from gateway.edge.rim import MAX_CONNECTIONS
from gateway.serving import connections_for


@pytest.mark.parametrize(
    ("files", "most"), [(1_000_000, MAX_CONNECTIONS), (30_100, 10_000), (1024, 308), (50, 1)]
)
def test_each_connection_may_need_one_to_a_provider(files: int, most: int) -> None:
    assert connections_for(files) == most
