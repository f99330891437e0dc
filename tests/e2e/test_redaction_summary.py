"""What was found of personal data: rows, admin API and command say the same of the same requests."""

from __future__ import annotations

import asyncio
import csv
import io
import subprocess
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlencode

import pytest
import pytest_asyncio

from tests.e2e.conditions import Conditions
from tests.e2e.operators import ADMIN, TOKEN, admin
from tests.e2e.refusals import assert_refused
from tests.e2e.rig import Gateway, group
from tests.e2e.served import command
from tests.fakes.answers import chat_body, chat_stream, json_answer, stream
from tests.fakes.upstream import Upstream, send

pytestmark = pytest.mark.asyncio(loop_scope="module")

EMAIL, SSN = "EMAIL_ADDRESS", "US_SSN"
MAILS = "Write to ann@example.com and bob@example.org."
LONG = MAILS + " More." * 50_000
"""Takes many milliseconds to search."""
IMAGE = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}


@pytest.fixture(scope="module")
def changes() -> dict[str, Any]:
    redaction = {
        "mode": "mask",
        "entities": [EMAIL, SSN],
        "actions": {SSN: "block"},
        "uncovered": "pass",
        "models": {
            "plain": {"mode": "off"},
            "hasty": {"budget_s": 0.001},
            "lenient": {"budget_s": 0.001, "on_failure": "pass"},
        },
    }
    return {
        **ADMIN,
        "models": {name: group() for name in ("chat", "plain", "hasty", "lenient")},
        "tenants": {"acme": {"redaction": redaction}},
    }


@pytest_asyncio.fixture(scope="module", loop_scope="module", autouse=True)
async def traffic(gateway: Gateway, upstream: Upstream, conditions: Conditions) -> AsyncIterator[None]:
    """One request of each kind; the conditions watch from before."""

    async def ask(name: str, content: Any, answer: str | None, **fields: Any) -> int:
        if answer is not None:
            upstream.next(send(json_answer(chat_body(answer))))
        messages = [{"role": "user", "content": content}]
        headers = {"x-request-id": name}
        return (await gateway.chat(headers=headers, messages=messages, **fields)).status

    assert await ask("both", MAILS, "Ask carl@example.net.") == 200
    assert await ask("clean", "Say something.", "Something.") == 200
    assert await ask("off", MAILS, MAILS, model="plain") == 200
    assert await ask("image", [{"type": "text", "text": MAILS}, IMAGE], "Fine.") == 200
    assert await ask("blocked", "My SSN is 536-22-8745.", None) == 403
    assert await ask("failed", LONG, None, model="hasty") == 503
    assert await ask("unsearched", LONG, "Fine.", model="lenient") == 200
    upstream.next(*stream(chat_stream(["Ask ca", "rl@example.net."])))
    assert await ask("stream", "Whom?", None, stream=True) == 200
    yield


async def summary(gateway: Gateway, **parameters: str) -> dict[str, Any]:
    answer = await admin(gateway, "GET", f"redactions?{urlencode(parameters)}")
    assert answer.status == 200, answer.body
    found: dict[str, Any] = answer.json()
    return found


@pytest.mark.parametrize(
    "name, expected",
    [
        ("both", {"input": {EMAIL: 2}, "output": {EMAIL: 1}}),
        ("image", {"input": {EMAIL: 2}, "skipped": {"image_url": 1}}),
        ("stream", {"output": {EMAIL: 1}}),
        ("unsearched", {"failed": ["input"]}),
        ("clean", None),
        ("off", None),
    ],
)
async def test_rows_tell(gateway: Gateway, name: str, expected: dict[str, Any] | None) -> None:
    row = await gateway.row(name)
    assert row.get("redactions") == expected
    assert ("redactions" in row) == (expected is not None)


async def test_a_refusal_is_told(gateway: Gateway) -> None:
    row = await gateway.row("blocked")
    assert (row["outcome"], row["error_code"]) == ("refused", "redaction_blocked")
    assert row["redactions"]["blocked"] == SSN
    row = await gateway.row("failed")
    assert row["error_code"] == "redaction_unavailable" and "redactions" not in row


async def test_an_attempt_tells_what_it_was_sent_without(gateway: Gateway) -> None:
    attempts = {row["request_id"]: row for row in gateway.rows("attempt")}
    assert attempts["both"]["redactions"] == {"input": {EMAIL: 2}}
    assert "redactions" not in attempts["clean"]


async def test_the_summary_is_the_rows(gateway: Gateway) -> None:
    found = await summary(gateway, entity=EMAIL)
    assert found["data"] == [
        {
            "group": {"tenant": "acme", "entity": EMAIL, "direction": direction},
            "count": count,
            "requests": 2,
        }
        for direction, count in (("input", 4), ("output", 2))
    ]
    assert (found["total"], found["skipped"], found["failed"]) == (6, {}, {})
    found = await summary(gateway)
    beside = (found["skipped"], found["blocked"], found["failed"])
    assert beside == ({"image_url": 1}, {SSN: 1}, {"input": 1})
    nothing = {"total": 0, "data": [], "skipped": {}, "blocked": {}, "failed": {}}
    assert await summary(gateway, entity="NOPE") == nothing


async def test_groups(gateway: Gateway) -> None:
    (one,) = (await summary(gateway, group_by="model", entity=EMAIL))["data"]
    assert one == {"group": {"model": "chat"}, "count": 6, "requests": 3}
    (one,) = (await summary(gateway, group_by="", direction="output"))["data"]
    assert one == {"group": {}, "count": 2, "requests": 2}
    days = {row["time"][:10] for row in gateway.rows()}
    period = {"from": min(days), "to": max(days)}
    assert (await summary(gateway, **period)) == (await summary(gateway))
    assert (await summary(gateway, **{"from": "2999-01-01"}))["data"] == []


@pytest.mark.parametrize(
    "asked, param", [("user=a", "user"), ("direction=up", "direction"), ("to=x", "to")]
)
async def test_a_bad_question_is_explained(gateway: Gateway, asked: str, param: str) -> None:
    answer = await admin(gateway, "GET", f"redactions?{asked}")
    assert_refused(answer, 400, "invalid_request")
    assert answer.json()["error"]["param"] == param


async def test_it_is_for_operators_and_described(gateway: Gateway) -> None:
    assert_refused(await gateway.ask("/admin/v1/redactions"), 401, "invalid_api_key")
    described = (await admin(gateway, "GET", "openapi.json")).json()["paths"]["/admin/v1/redactions"]["get"]
    names = [parameter["name"] for parameter in described["parameters"]]
    assert names == ["tenant", "entity", "direction", "model", "from", "to", "group_by"]


async def shell(gateway: Gateway, *options: str) -> subprocess.CompletedProcess[str]:
    arguments = ("redactions", "--url", gateway.url, "--token", TOKEN, *options)
    return await asyncio.to_thread(command, *arguments)


async def test_the_command(gateway: Gateway) -> None:
    done = await shell(gateway)
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line.split() for line in done.stdout.splitlines() if line.strip()]
    assert lines[0] == ["tenant", "entity", "direction", "count", "requests"]
    assert lines[2] == ["acme", EMAIL, "input", "4", "2"]
    assert ["total", str((await summary(gateway))["total"])] in lines
    assert f"blocked requests: {SSN} 1" in done.stdout and "image_url 1" in done.stdout
    assert "passed though the search failed: input 1" in done.stdout
    done = await shell(gateway, "--csv", "--group-by", "entity", "--direction", "output")
    assert list(csv.DictReader(io.StringIO(done.stdout))) == [
        {"entity": EMAIL, "count": "2", "requests": "2"}
    ]
    assert (await shell(gateway, "--tenant", "nobody", "--entity", EMAIL)).stdout.startswith(
        "Nothing was found."
    )


async def test_what_the_command_cannot_do_it_says(gateway: Gateway) -> None:
    done = await shell(gateway, "--direction", "up")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: 'direction' must be input or output.\n"
