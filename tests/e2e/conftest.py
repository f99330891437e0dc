"""One gateway and one fake provider for each file of tests; both live in the file's event loop."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from gateway.accounting.chain import verify
from tests.e2e.conditions import Conditions
from tests.e2e.rig import Gateway
from tests.fakes.upstream import Upstream

_NOTES = pytest.StashKey[list[str]]()


@pytest.fixture(scope="module")
def changes() -> dict[str, Any]:
    """What a file of tests changes in the rig's configuration."""
    return {}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def upstream() -> AsyncIterator[Upstream]:
    async with Upstream() as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(
    upstream: Upstream,
    changes: dict[str, Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Gateway]:
    running = Gateway(tmp_path_factory.mktemp("gateway"), upstream, changes)
    await running.start()
    yield running
    assert await running.stop() == 0, running.stderr.read_text()[-2000:]
    for writer in running.data_dir.glob("ledger/*/"):
        assert verify(writer) == []


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def conditions(gateway: Gateway, pytestconfig: pytest.Config) -> AsyncIterator[Conditions]:
    checked = Conditions(gateway)
    yield checked
    pytestconfig.stash.setdefault(_NOTES, []).extend(checked.notes)


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def settled(conditions: Conditions) -> AsyncIterator[None]:
    yield
    await conditions.check()


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    for note in config.stash.get(_NOTES, []):
        terminalreporter.write_line(f"e2e: {note}")
