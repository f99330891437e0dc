"""Bodies that are too large, compressed or of another kind, and headers of ours that make no sense."""

from __future__ import annotations

import gzip
from typing import Any

import orjson
import pytest

from tests.e2e.refusals import assert_refused, exchange
from tests.e2e.rig import CHAT, Gateway, chat
from tests.fakes import answers
from tests.fakes.answers import chunked, json_answer
from tests.fakes.client import request
from tests.fakes.upstream import Upstream, send

pytestmark = pytest.mark.asyncio(loop_scope="module")

OK = json_answer(answers.chat_body("fine"))
CAP = 64 * 1024
INVALID = (400, "invalid_request")
UNSUPPORTED = (415, "unsupported_media_type")
TEXT = orjson.dumps(chat()).decode()


@pytest.fixture(scope="module")
def changes() -> dict[str, Any]:
    return {"server": {"max_body_bytes": CAP}}


def _sized(size: int) -> bytes:
    """A good body of so many bytes."""
    return orjson.dumps(chat(x="x" * (size - len(TEXT) - 7)))


async def test_the_cap_is_exact(gateway: Gateway, upstream: Upstream) -> None:
    assert len(_sized(CAP)) == CAP
    coded = {"content-type": "application/json", "transfer-encoding": "chunked"}
    start = request(CHAT, key=gateway.key, method="POST", headers=coded)
    for block in (request(CHAT, _sized(CAP), key=gateway.key), start + chunked([_sized(CAP)])):
        upstream.next(send(OK))
        assert (await exchange(gateway, block)).status == 200
    over = _sized(CAP + 1)
    for block in (request(CHAT, over, key=gateway.key), start + chunked([over[:70], over[70:]])):
        assert_refused(await exchange(gateway, block), 413, "body_too_large")


@pytest.mark.parametrize("coded", [False, True])
async def test_a_body_that_is_far_too_large_is_not_taken(gateway: Gateway, coded: bool) -> None:
    """The answer comes while the client is still sending."""
    framing = {"transfer-encoding": "chunked"} if coded else {"content-length": str(200 << 20)}
    head = {"content-type": "application/json", **framing}
    async with gateway.client() as client:
        await client.send(request(CHAT, key=gateway.key, method="POST", headers=head))
        await client.send(chunked([b"x" * (1 << 20)], end=False) if coded else b"x" * (1 << 20))
        assert_refused(await client.read(), 413, "body_too_large")
        assert await client.closed(5.0)


BOMB = gzip.compress(b" " * (50 << 20) + TEXT.encode())


@pytest.mark.parametrize(
    ("body", "headers", "expected"),
    [
        (gzip.compress(TEXT.encode()), {"content-encoding": "gzip"}, UNSUPPORTED),
        (BOMB, {"content-encoding": "gzip"}, UNSUPPORTED),
        (TEXT.encode(), {"content-encoding": "br"}, UNSUPPORTED),
        (TEXT.encode(), {"content-encoding": "identity, gzip"}, UNSUPPORTED),
        (gzip.compress(TEXT.encode()), {}, INVALID),
        (TEXT.encode(), {"content-type": "text/plain"}, UNSUPPORTED),
        (TEXT.encode(), {"content-type": ""}, UNSUPPORTED),
        (TEXT.encode(), {"content-type": None}, UNSUPPORTED),
        (TEXT.encode(), {"content-type": "application/json; charset=utf-16"}, UNSUPPORTED),
        (TEXT.encode(), {"content-type": "application/x-www-form-urlencoded"}, UNSUPPORTED),
        (TEXT.encode(), {"content-type": "\xff\xfe"}, UNSUPPORTED),
        (TEXT.encode(), {"content-type": f"multipart/form-data; boundary={'x' * 7_000}"}, UNSUPPORTED),
        (
            TEXT.encode(),
            {"content-type": f"multipart/form-data; boundary={'x' * 10_240}"},
            (431, "headers_too_large"),
        ),
    ],
    ids=lambda value: repr(value)[:40],
)
async def test_media_that_are_not_taken(
    gateway: Gateway, body: bytes, headers: dict[str, str | None], expected: tuple[int, str]
) -> None:
    given = {"content-type": "application/json", "content-length": str(len(body)), **headers}
    head = {name: value for name, value in given.items() if value is not None}
    block = request(CHAT, key=gateway.key, method="POST", headers=head) + body
    assert_refused(await exchange(gateway, block), *expected)


@pytest.mark.parametrize(
    "headers",
    [
        *({"x-request-timeout-ms": value} for value in ("0", "-1", "1.5", "1e3", "x", "", "9" * 5_000)),
        {"x-request-timeout-ms": "86400001"},
        {"x-request-timeout-ms": "000000000001" + "9" * 5_000},
        {"x-request-timeout-ms": "\xb2"},
        *({"x-gateway-feature": value} for value in ("", "a\tb", "<x>", "\xe9", "x" * 129, "a'b", "{}")),
        *({"x-gateway-user": value} for value in ("", '"', "\x9b", "x" * 8_000)),
        *({"x-gateway-tags": value} for value in ("", "=", "a", "a=", "=b", "a=b,", "a=b=c", "a=<b>")),
        {"x-gateway-tags": ",".join(f"k{n}=v" for n in range(17))},
        {"x-gateway-tags": ",".join(f"k{n}=v" for n in range(1_000))},
    ],
    ids=lambda headers: repr(headers)[:50],
)
async def test_headers_of_ours_that_are_wrong(gateway: Gateway, headers: dict[str, str]) -> None:
    got = await gateway.chat(headers=headers)
    assert_refused(got, *INVALID)
    assert got.json()["error"]["param"] in headers
