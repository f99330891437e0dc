"""What was spent and for what: the admin API and the commands agree with the ledger, to the nano-dollar."""

from __future__ import annotations

import asyncio
import csv
import io
import subprocess
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

import pytest
import pytest_asyncio

from tests.e2e.refusals import assert_refused
from tests.e2e.rig import Gateway
from tests.e2e.served import command
from tests.fakes.answers import chat_body, error_answer, json_answer
from tests.fakes.client import Answer
from tests.fakes.upstream import Upstream, send

pytestmark = pytest.mark.asyncio(loop_scope="module")

TOKEN = "operator-token-0123456789abcdef0123456789"
USED = {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}
COST = Decimal("0.0035")


@pytest.fixture(scope="module")
def changes() -> dict[str, Any]:
    return {"server": {"admin_token": TOKEN}}


@pytest_asyncio.fixture(scope="module", loop_scope="module", autouse=True)
async def traffic(gateway: Gateway, upstream: Upstream) -> AsyncIterator[None]:
    """Five answers of two features and two users, one of a team, and a failure."""
    asked = (
        ("ann", "search", "team=red"),
        ("ann", "search", ""),
        ("bob", "search", ""),
        ("bob", "chat", ""),
    )
    for number, (user, feature, tags) in enumerate((*asked, ("", "", "")), 1):
        upstream.next(send(json_answer(chat_body("fine", usage=USED))))
        headers = {"x-gateway-user": user, "x-gateway-feature": feature, "x-gateway-tags": tags}
        named = {name: value for name, value in headers.items() if value}
        assert (await gateway.chat(headers={**named, "x-request-id": f"asked-{number}"})).status == 200
    upstream.next(send(error_answer("400 Bad Request")))
    assert (await gateway.chat()).status == 400
    yield


async def admin(gateway: Gateway, path: str, **parameters: str) -> Answer:
    return await gateway.ask(f"/admin/v1/{path}?{urlencode(parameters)}", key=TOKEN)


async def spend(gateway: Gateway, **parameters: str) -> dict[str, Any]:
    answer = await admin(gateway, "spend", **parameters)
    assert answer.status == 200
    found: dict[str, Any] = answer.json()
    return found


async def shell(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(lambda: command(*arguments, **environ))


async def test_the_total_is_the_ledgers(gateway: Gateway) -> None:
    found = await spend(gateway)
    rows = gateway.rows()
    assert Decimal(found["total_usd"]) == 5 * COST == sum(Decimal(row["cost_usd"]) for row in rows)
    (one,) = found["data"]
    assert one["group"] == {} and one["requests"] == len(rows) == 6
    assert one["input_tokens"] == sum(row["usage"]["input_tokens"] for row in rows)
    assert Decimal(one["charged_usd"]) == sum(Decimal(row["charged_usd"]) for row in rows)


@pytest.mark.parametrize(
    "parameters, expected",
    [
        ({"group_by": "feature"}, {("search",): 3, ("chat",): 1, ("",): 1}),
        ({"group_by": "feature,user", "tenant": "acme"}, {("search", "ann"): 2, ("search", "bob"): 1}),
        ({"group_by": "user", "feature": "search"}, {("ann",): 2, ("bob",): 1}),
        ({"group_by": "model,provider,deployment,key"}, {("chat", "fake", "chat-1", "ci"): 5}),
        ({"group_by": "team"}, {("red",): 1, (None,): 4}),
        ({"group_by": "tag:team", "tag:team": "red"}, {("red",): 1}),
        ({"tenant": "nobody"}, {}),
    ],
)
async def test_groups(
    gateway: Gateway, parameters: dict[str, str], expected: dict[tuple[str | None, ...], int]
) -> None:
    data = (await spend(gateway, **parameters))["data"]
    costs = {tuple(one["group"].values()): Decimal(one["cost_usd"]) for one in data}
    for group, count in expected.items():
        assert costs[group] == count * COST
    assert bool(costs) == bool(expected)


async def test_periods(gateway: Gateway) -> None:
    days = {row["time"][:10] for row in gateway.rows()}
    first, last = min(days), max(days)
    everything = await spend(gateway)
    assert await spend(gateway, **{"from": first, "to": last}) == everything
    assert (await spend(gateway, **{"from": "2999-01-01"}))["data"] == []
    assert (await spend(gateway, to="2020-01-01T00:00:00+01:00"))["total_usd"] == "0.000000000"
    by_day = (await spend(gateway, group_by="day"))["data"]
    assert {one["group"]["day"] for one in by_day} <= days


@pytest.mark.parametrize(
    "path, param",
    [
        ("spend?tennant=a", "tennant"),
        ("spend?from=soon", "from"),
        ("spend?to=2026-13-01", "to"),
        ("spend?from=2026-11-21T10:00:00", "from"),
        ("spend?group_by=to", "group_by"),
        ("spend?tenant=a&tenant=b", "tenant"),
        ("ledger", "request_id"),
        ("ledger?request_id=", "request_id"),
        ("ledger?request=1", "request_id"),
    ],
)
async def test_a_bad_question_is_explained(gateway: Gateway, path: str, param: str) -> None:
    answer = await gateway.ask(f"/admin/v1/{path}", key=TOKEN)
    assert_refused(answer, 400, "invalid_request")
    assert answer.json()["error"]["param"] == param


@pytest.mark.parametrize("path", ["spend", "ledger?request_id=asked-1"])
async def test_tenants_learn_nothing(gateway: Gateway, path: str) -> None:
    assert_refused(await gateway.ask(f"/admin/v1/{path}"), 401, "invalid_api_key")


async def test_a_requests_rows(gateway: Gateway) -> None:
    (row,) = (await admin(gateway, "ledger", request_id="asked-2")).json()["data"]
    (written,) = [row for row in gateway.rows() if row["request_id"] == "asked-2"]
    assert row == {**written, "writer": row["writer"]}
    for nobody in ("never", "asked-", 'asked-1"', "é", "x" * 500):
        assert (await admin(gateway, "ledger", request_id=nobody)).json() == {"data": []}


async def test_the_command_shows_a_table(gateway: Gateway) -> None:
    done = await shell("spend", "--url", gateway.url, "--group-by", "feature", GATEWAY_ADMIN_TOKEN=TOKEN)
    assert done.returncode == 0 and done.stderr == ""
    lines = [line.split() for line in done.stdout.splitlines() if line.strip()]
    assert lines[0][:2] == ["feature", "requests"]
    assert lines[2][:2] == ["search", "3"] and lines[2][-1] == "0.010500"
    assert lines[-1][:2] == ["total", "6"] and lines[-1][-1] == "0.017500"
    ends = {len(line.rstrip()) for line in done.stdout.splitlines() if "0.0" in line}
    assert len(ends) == 1  # money is aligned to the right


async def test_the_command_prints_csv(gateway: Gateway) -> None:
    options = ("--group-by", "user,team", "--user", "ann", "--csv", "--token", TOKEN)
    done = await shell("spend", "--url", f"{gateway.url}/", *options)
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert {(row["user"], row["team"], row["cost_usd"]) for row in rows} == {
        ("ann", "red", "0.003500000"),
        ("ann", "", "0.003500000"),
    }


@pytest.mark.parametrize(
    "options, code, said",
    [
        ((), 1, "the admin token is missing; set GATEWAY_ADMIN_TOKEN"),
        (("--token", "no-token-0123456789abcdef0123456789"), 1, "the gateway refuses the admin token"),
        (("--token", TOKEN, "--from", "soon"), 1, "'from' must be a date"),
        (("--token", TOKEN, "--url", "http://127.0.0.1:1"), 1, "nobody listens at http://127.0.0.1:1;"),
        (("--token", TOKEN, "--url", "gateway:8080"), 2, "use a URL such as http://127.0.0.1:8080"),
        (("--token", TOKEN, "--limit", "3"), 2, "No such option"),
    ],
)
async def test_what_the_command_cannot_do_it_says(
    gateway: Gateway, options: tuple[str, ...], code: int, said: str
) -> None:
    named = options if "--url" in options else (*options, "--url", gateway.url)
    done = await shell("spend", *named)
    assert done.returncode == code and done.stdout == ""
    assert said in done.stderr and "Traceback" not in done.stderr
    assert code == 2 or done.stderr.count("\n") == 1
