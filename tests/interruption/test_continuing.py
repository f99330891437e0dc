"""The sweep where an answer is cut in the middle and gone on with."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from gateway.interrupt import Reason
from tests.fakes.answers import chat_stream, chunk, open_stream, stream
from tests.fakes.upstream import Step, Upstream, reset, wait
from tests.interruption.rig import Rig, by_reason, interrupted
from tests.interruption.test_failing import allow

CUT = (open_stream(chunk({"role": "assistant"}), chunk({"content": "one two"})), wait(0.001), reset())
MORE = stream(chat_stream(["one", " two", " three"]), size=300, pause_s=0.0005)
MODEL: dict[str, Any] = {
    "on_cut": "continue",
    "strategy": "ordered",
    "retry": {"attempts": 2, "backoff_s": "0.0001", "budget": "1"},
    "breaker": {"failures": 10**6, "min_requests": 10**6},
}


@pytest.mark.parametrize("second", [MORE, CUT], ids=["complete", "cut-too"])
@by_reason
async def test_interrupted_at_every_await_of_a_continuation(
    tmp_path: Path, reason: Reason | None, second: list[Step]
) -> None:
    """One row, with every attempt in it; what was joined is what was charged."""
    async with Upstream() as upstream:
        provider = {"kind": "openai", "base_url": upstream.url, "prefill": "message"}
        rig = Rig(tmp_path, provider, **MODEL)
        begun = joined = 0
        for at in rig.sweep():
            allow(rig.group.budget)
            upstream.next(*CUT)
            upstream.next(*second)
            await interrupted(rig, "stream", reason, at)
            upstream.forget()
            for row in rig.rows:
                begun += len(row["attempts"]) == 2
                joined += len(row["joins"])
                assert len(row["joins"]) < max(len(row["attempts"]), 1)
                assert row["charged_usd"] == row["cost_usd"] or not row["joins"]
            assert [one.health.in_flight for one in rig.group.deployments] == [0, 0]
        assert at > 15
        assert begun > 3
        assert (joined > 0) == (second is MORE)  # the other one is cut in its echo
        await rig.close()
        async with asyncio.timeout(5):
            for connection in upstream.connections:
                if not connection.ended:
                    await connection.gone.wait()
