"""A provider that is down does not get more requests than it would without retries, but for a few."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults import storm


@pytest.fixture(autouse=True)
def settled() -> None:
    """The storm has a gateway of its own."""


async def test_a_healthy_deployment_answers_for_one_that_is_down(tmp_path: Path) -> None:
    report = await storm.run(tmp_path, storm.SHORT_HELPED)
    assert report.requests <= report.all_calls
    assert storm.wrong(report) == [], storm.text(report)


async def test_retries_do_not_multiply_the_load_and_healing_is_noticed_at_once(tmp_path: Path) -> None:
    report = await storm.run(tmp_path, storm.SHORT)
    assert report.requests == storm.SHORT.rate * storm.SHORT.failing_s
    assert report.calls >= report.requests
    assert storm.wrong(report) == [], storm.text(report)
