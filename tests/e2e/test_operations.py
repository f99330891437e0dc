"""What operators look at: liveness, readiness and metrics, wrong paths, and series that cannot grow."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import orjson
import pytest

from tests.e2e.refusals import assert_refused, exchange
from tests.e2e.rig import CHAT, Gateway, chat, samples
from tests.fakes import answers
from tests.fakes.answers import chat_stream, error_answer, json_answer, stream
from tests.fakes.client import request
from tests.fakes.upstream import Upstream, send

pytestmark = pytest.mark.asyncio(loop_scope="module")

OK = json_answer(answers.chat_body("fine"))
SIDE = ("/healthz", "/readyz", "/metrics")
JUNK = 20_000
BATCH = 8
CONNECTIONS = 8


async def test_side_routes_want_no_key(gateway: Gateway) -> None:
    alive = await gateway.ask("/healthz", key=None)
    assert (alive.status, alive.json()) == (200, {"status": "ok"})
    ready = await gateway.ask("/readyz", key=None)
    assert (ready.status, ready.json()["ready"], ready.json()["reasons"]) == (200, True, [])
    assert ready.json()["config"]["rejected"] is None
    metrics = await gateway.ask("/metrics", key="sk-of-nobody-at-all")
    assert metrics.status == 200
    assert (metrics.header("content-type") or "").startswith("text/plain; version=0.0.4")


async def test_side_routes_take_a_harmless_request_id(gateway: Gateway) -> None:
    for path in (*SIDE, "/nothing"):
        got = await gateway.ask(path, headers={"x-request-id": "probe-1"})
        assert got.header("x-request-id") == "probe-1"
        got = await gateway.ask(path, headers={"x-request-id": "<\xe9>"})
        assert (got.header("x-request-id") or "").startswith("req_")


@pytest.mark.parametrize("path", SIDE)
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
async def test_side_routes_are_read_only(gateway: Gateway, path: str, method: str) -> None:
    assert_refused(await gateway.ask(path, method=method), 405, "method_not_allowed")


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/nothing",
        "/healthz/",
        "/metrics/",
        "/readyz/x",
        "//healthz",
        "/v1x",
        "/V1/chat/completions",
        "//v1/chat/completions",
        "/v1%2fmodels%00",
        "/chat/completions",
        "/docs",
        "/openapi.json",
        "/admin/v1/tenants",
        "/%ff%fe",
        "/a%0d%0ax-evil:%201",
        "/../../etc/passwd",
    ],
)
async def test_unknown_paths_are_404_in_json(gateway: Gateway, path: str) -> None:
    for method in ("GET", "POST", "DELETE"):
        got = await gateway.ask(path, method=method)
        assert_refused(got, 404, "not_found")
        assert got.header("x-evil") is None and got.header("location") is None


@pytest.mark.parametrize("host", ["[1]", "[::::]", "a:99999", "evil.example", "[::1]:80"])
async def test_a_strange_host_changes_nothing(gateway: Gateway, host: str) -> None:
    for path, status in (("/healthz", 200), ("/nothing", 404), ("/healthz/", 404)):
        got = await exchange(gateway, f"GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n".encode())
        assert got.status in (status, 400)
        assert host.encode() not in got.body and got.header("location") is None


async def _traffic(gateway: Gateway, upstream: Upstream) -> None:
    upstream.next(send(OK))
    assert (await gateway.chat()).status == 200
    upstream.next(*stream(chat_stream(["one ", "two "])))
    assert (await gateway.chat(stream=True)).status == 200
    upstream.next(send(error_answer("500 Internal Server Error")))
    assert (await gateway.chat()).status == 502
    assert (await gateway.chat(model='quo"ted\\\n')).status == 404
    assert (await gateway.ask("/v1/models", key="unknown-key-of-nobody")).status == 401


async def test_promtool_accepts_the_metrics(gateway: Gateway, upstream: Upstream) -> None:
    await _traffic(gateway, upstream)
    text = await gateway.metrics()
    found = samples(text)
    assert sum(value for _, value in found["gateway_requests_total"]) >= 5
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=text.encode(), capture_output=True, timeout=20
    )
    assert checked.returncode == 0, checked.stderr.decode()
    assert checked.stderr == b""


async def test_what_a_provider_says_makes_no_series(gateway: Gateway, upstream: Upstream) -> None:
    await _traffic(gateway, upstream)
    before = _series(await gateway.metrics())
    for number in range(40):
        code = f"invented_{number}"
        upstream.next(send(error_answer("400 Bad Request", code)))
        assert (await gateway.chat()).status == 400
        body = {**answers.chat_body("fine"), "model": f"invented-{number}"}
        upstream.next(send(json_answer(body)))
        assert (await gateway.chat()).status == 200
    text = await gateway.metrics()
    assert "invented" not in text
    assert _series(text) - before <= 20


async def test_what_clients_say_makes_no_series(gateway: Gateway, upstream: Upstream) -> None:
    await _traffic(gateway, upstream)
    await _junk(gateway, range(JUNK // 4))
    before, before_bytes = _series(await gateway.metrics()), _resident_bytes(gateway.pid)
    await _junk(gateway, range(JUNK // 4, JUNK))
    for number in range(100):
        tags = {f"x-gateway-{name}": f"junk-{name}-{number}" for name in ("feature", "user")}
        upstream.next(send(OK))
        assert (await gateway.chat(headers=tags, user=f"junk-{number}")).status == 200
    text = await gateway.metrics()
    assert "junk" not in text
    assert _series(text) - before <= 20
    assert _resident_bytes(gateway.pid) - before_bytes < 24 << 20


async def _junk(gateway: Gateway, numbers: range) -> None:
    shares = [numbers[start::CONNECTIONS] for start in range(CONNECTIONS)]
    await asyncio.gather(*(_junk_requests(gateway, share) for share in shares))


async def _junk_requests(gateway: Gateway, numbers: range) -> None:
    async with gateway.client() as client:
        for start in range(0, len(numbers), BATCH):
            batch = numbers[start : start + BATCH]
            await client.send(b"".join(_nonsense(gateway.key, number) for number in batch))
            for _ in batch:
                assert 400 <= (await client.read()).status < 500


def _nonsense(key: str, number: int) -> bytes:
    junk = f"junk-{number}"
    if number % 4 == 0:
        headers = {"x-gateway-feature": junk, "x-gateway-user": junk, "x-gateway-tags": f"{junk}={junk}"}
        return request(CHAT, chat(model=junk, user=junk), key=key, headers=headers)
    if number % 4 == 1:
        return request(f"/v1/{junk}", key=key, headers={"x-request-id": junk})
    if number % 4 == 2:
        methods = ("PUT", "PATCH", "PROPFIND", "LINK", "PURGE", "REPORT")
        return request(CHAT, orjson.dumps(junk), key=key, method=methods[number // 4 % len(methods)])
    return request(f"/{junk}", key=f"sk-{junk}")


def _series(text: str) -> int:
    return sum(map(len, samples(text).values()))


def _resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


async def test_without_a_token_there_is_no_admin_api(gateway: Gateway) -> None:
    for path in ("/admin/v1/deployments", "/admin/v1/openapi.json", "/admin/v1/nothing"):
        assert_refused(await gateway.ask(path), 404, "not_found")
