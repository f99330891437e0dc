"""What every refusal looks like, whoever refuses."""

from __future__ import annotations

from tests.e2e.rig import Gateway
from tests.fakes.client import Answer

FIELDS = {"message", "type", "param", "code", "request_id"}


def assert_refused(answer: Answer, status: int, code: str) -> None:
    """The status, the code, the shape of the body, and the headers that belong to them."""
    assert (answer.status, answer.code) == (status, code), answer.body[:500]
    assert answer.header("content-type") == "application/json"
    error = answer.json()["error"]
    assert set(error) == FIELDS
    assert isinstance(error["message"], str) and 0 < len(error["message"]) < 500
    assert error["request_id"] == answer.header("x-request-id")
    if status in (429, 503):
        assert int(answer.header("retry-after") or 0) >= 1
    else:
        assert answer.header("x-should-retry") == "false"
    if status == 405:
        assert answer.header("allow") in ("GET", "POST")


async def exchange(gateway: Gateway, block: bytes) -> Answer:
    """The answer to raw bytes on a connection of their own."""
    async with gateway.client() as client:
        await client.send(block)
        return await client.read()
