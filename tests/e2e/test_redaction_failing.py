"""A search that fails, hangs, dies, takes long or is not needed any more: nothing passes by accident."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
import pytest_asyncio

from tests.e2e.operators import ADMIN, TOKEN
from tests.e2e.redacting import (
    EMAIL,
    HASH_KEY,
    IBAN,
    MADE_UP,
    MASK,
    PHONE,
    RESTORE,
    SSN,
    ask,
    counted,
    key_of,
    policies,
    prompt,
    row_of,
    user,
    whole,
)
from tests.e2e.refusals import assert_refused
from tests.e2e.rig import CHAT, Gateway, chat
from tests.e2e.routes import said
from tests.e2e.served import Served, came, served
from tests.e2e.sinks import Monitor, assert_without, dump, left_behind
from tests.fakes.answers import chat_stream, chunk, chunked, open_stream
from tests.fakes.client import Answer, request
from tests.fakes.upstream import Upstream, hang, send, wait_for
from tests.storage.redis_server import redis_server

pytestmark = pytest.mark.asyncio(loop_scope="module")

HEADER = "x-gateway-redaction"
LONG = "Lorem ipsum dolor sit amet. " * 600
"""Beyond what is searched at once."""
SOON_S = 15.0
HASTY_S = 0.4


@pytest.fixture(scope="module")
def changes() -> dict[str, Any]:
    return policies(
        masks={**RESTORE, "budget_s": 20},
        blocks={"mode": "block", "budget_s": 20},
        hasty={**RESTORE, "budget_s": HASTY_S},
        passing={**RESTORE, "budget_s": HASTY_S, "on_failure": "pass"},
    )


def children(gateway: Gateway) -> list[int]:
    """The processes that search for it."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int(folder.joinpath("stat").read_text().rpartition(")")[2].split()[1])
            command = folder.joinpath("cmdline").read_bytes()
        except OSError:
            continue
        if parent == gateway.pid and b"gateway.detection.child" in command:
            found.append(int(folder.name))
    return found


async def child(gateway: Gateway) -> int:
    """The only one, once it is ready."""
    async with asyncio.timeout(SOON_S):
        while True:
            ready = {line["pid"] for line in gateway.log("detection_ready")}
            running = children(gateway)
            if len(running) == 1 and running[0] in ready:
                return running[0]
            await asyncio.sleep(0.02)


@asynccontextmanager
async def frozen(gateway: Gateway) -> AsyncIterator[int]:
    """No search gets on; afterwards one does again, by whoever is there then."""
    pid = await child(gateway)
    os.kill(pid, signal.SIGSTOP)
    try:
        yield pid
    finally:
        try:
            os.kill(pid, signal.SIGCONT)
        except ProcessLookupError:
            pass
    await child(gateway)


async def test_a_long_text_is_searched(gateway: Gateway, upstream: Upstream) -> None:
    upstream.next(whole("Dear [EMAIL_ADDRESS_1]."))
    answer = await ask(gateway, "masks", f"{LONG}{EMAIL} {LONG}")
    assert prompt(upstream) == f"{LONG}[EMAIL_ADDRESS_1] {LONG}"
    assert said(answer) == f"Dear {EMAIL}."


async def test_a_search_that_hangs(gateway: Gateway, upstream: Upstream) -> None:
    before = len(upstream.seen)
    async with frozen(gateway) as pid:
        answer = await ask(gateway, "hasty", LONG + EMAIL)
        assert_refused(answer, 503, "redaction_unavailable")
        assert (answer.header(HEADER) or "").startswith("input=failed;")
        row = await row_of(gateway, answer)
        assert (row["outcome"], row["error_code"]) == ("refused", "redaction_unavailable")
        assert (row["attempts"], row["charged_usd"]) == ([], "0.000000000")
        assert EMAIL.encode() not in gateway.stderr.read_bytes()
        upstream.next(whole())
        short = await ask(gateway, "hasty", EMAIL)
        assert short.status == 200, "a short text needs no other process"
        async with asyncio.timeout(SOON_S):
            while pid in children(gateway):
                await asyncio.sleep(0.02)
    assert len(upstream.seen) == before + 1
    upstream.next(whole())
    assert (await ask(gateway, "masks", LONG + EMAIL)).status == 200
    assert prompt(upstream) == f"{LONG}[EMAIL_ADDRESS_1]"


async def test_a_search_that_dies(gateway: Gateway, upstream: Upstream) -> None:
    before = len(upstream.seen)
    async with frozen(gateway) as pid:
        asked = asyncio.get_running_loop().create_task(ask(gateway, "masks", LONG + EMAIL))
        await asyncio.sleep(0.2)
        os.kill(pid, signal.SIGKILL)
        assert_refused(await asked, 503, "redaction_unavailable")
    assert len(upstream.seen) == before
    upstream.next(whole())
    assert (await ask(gateway, "masks", LONG + EMAIL)).status == 200


async def test_who_comes_while_nobody_searches_waits(gateway: Gateway, upstream: Upstream) -> None:
    pid = await child(gateway)
    os.kill(pid, signal.SIGKILL)
    async with asyncio.timeout(SOON_S):
        while pid not in {line["pid"] for line in gateway.log("detection_ended")}:
            await asyncio.sleep(0.01)
    upstream.next(whole())
    answer = await ask(gateway, "masks", LONG + EMAIL)
    assert answer.status == 200, answer.body
    assert EMAIL.encode() not in upstream.last.body


async def test_a_failure_may_pass(gateway: Gateway, upstream: Upstream) -> None:
    before = await counted(gateway, "gateway_redaction_skipped_total", reason="detector_failed")
    upstream.next(whole("Hello."))
    async with frozen(gateway):
        answer = await ask(gateway, "passing", LONG + EMAIL)
        assert said(answer) == "Hello."
        assert prompt(upstream) == LONG + EMAIL
        assert (answer.header(HEADER) or "").startswith("input=failed;")
        assert (await row_of(gateway, answer))["redactions"]["failed"] == ["input"]
    after = await counted(gateway, "gateway_redaction_skipped_total", reason="detector_failed")
    assert after == before + 1


@pytest.mark.parametrize("name", ["hasty", "passing"])
async def test_an_answer_that_cannot_be_searched(gateway: Gateway, upstream: Upstream, name: str) -> None:
    upstream.next(whole(f"{LONG} {MADE_UP}"))
    async with frozen(gateway):
        answer = await ask(gateway, name, "hi")
        row = await row_of(gateway, answer)
    assert row["cost_usd"] != "0.000000000"
    if name == "passing":
        assert said(answer) == f"{LONG} {MADE_UP}"
        assert answer.header(HEADER) == "input=clean;output=failed"
        assert row["redactions"] == {"failed": ["output"]}
    else:
        assert_refused(answer, 503, "redaction_unavailable")
        assert MADE_UP.encode() not in answer.body
        assert answer.header(HEADER) == "input=clean;output=failed"
        assert (row["outcome"], row["error_code"]) == ("error", "redaction_unavailable")
        assert "redactions" not in row


async def test_a_client_leaves_a_search(gateway: Gateway, upstream: Upstream) -> None:
    before, request_id = len(upstream.seen), f"left-{secrets.token_hex(4)}"
    async with frozen(gateway):
        async with gateway.client() as client:
            body = chat(messages=user(LONG + EMAIL))
            headers = {"x-request-id": request_id}
            await client.send(request(CHAT, body, key=key_of("masks"), headers=headers))
            await asyncio.sleep(0.2)
        row = await gateway.row(request_id)
        assert (row["outcome"], row["attempts"]) == ("client_gone", [])
    upstream.next(whole())
    assert (await ask(gateway, "masks", LONG + EMAIL)).status == 200
    assert len(upstream.seen) == before + 1


async def test_a_long_text_is_blocked(gateway: Gateway, upstream: Upstream) -> None:
    before = len(upstream.seen)
    for length in (1, 20):
        answer = await ask(gateway, "blocks", LONG * length + EMAIL)
        assert_refused(answer, 403, "redaction_blocked")
    assert len(upstream.seen) == before


async def test_a_deadline_ends_a_search(gateway: Gateway, upstream: Upstream) -> None:
    async with frozen(gateway):
        headers = {"x-request-timeout-ms": "300"}
        answer = await ask(gateway, "masks", LONG + EMAIL, headers=headers)
        assert_refused(answer, 504, "deadline_exceeded")
    upstream.next(whole())
    assert (await ask(gateway, "masks", LONG + EMAIL)).status == 200


@pytest_asyncio.fixture(loop_scope="module")
async def alone() -> AsyncIterator[Upstream]:
    """The provider of a gateway of a test's own."""
    async with Upstream() as running:
        yield running


async def test_a_new_policy_while_requests_run(tmp_path: Path, alone: Upstream) -> None:
    """What has begun ends by the policy that it began with."""
    async with served(tmp_path, alone, **policies(t={**RESTORE, "budget_s": 20})) as gateway:
        go = asyncio.Event()
        begun = open_stream(chunk({"role": "assistant"}), chunk({"content": "Dear [EMAIL_ADD"}))
        rest = [*chat_stream([f"RESS_1], not {MADE_UP}."])[1:]]
        alone.next(begun, wait_for(go), send(chunked(rest)))
        former = asyncio.get_running_loop().create_task(ask(gateway, "t", EMAIL, stream=True))
        await came(alone, 1)
        for _ in range(5):
            alone.next(whole("fine"))
        long = [
            asyncio.get_running_loop().create_task(ask(gateway, "t", LONG * 40 + EMAIL)) for _ in range(4)
        ]
        gateway.configure({"tenants": {"t": {"redaction": {"mode": "hash", "restore": False}}}})
        await gateway.reloaded("ok", 1)
        answer = await ask(gateway, "t", EMAIL)
        assert (answer.header(HEADER) or "").startswith("input=hash:1;")
        for one in await asyncio.gather(*long):
            assert one.status == 200, one.body
        assert all(EMAIL.encode() not in seen.body for seen in alone.seen)
        go.set()
        assert said(await former) == f"Dear {EMAIL}, not [EMAIL_ADDRESS_2]."
        gateway.configure({"tenants": {"t": {"redaction": {"mode": "off"}}}})
        await gateway.reloaded("ok", 2)
        alone.next(whole())
        open_now = await ask(gateway, "t", EMAIL)
        assert prompt(alone) == EMAIL and open_now.header(HEADER) is None
        assert await gateway.stop() == 0
        gateway.assert_whole()


MEGABYTES = 27
QUICK_S = 2.0


async def test_a_huge_body_holds_nobody_up(tmp_path: Path, alone: Upstream) -> None:
    settings = policies(large={**MASK, "budget_s": 60}, small=RESTORE)
    settings["server"] = {"max_body_bytes": 32 << 20}
    text = f"{'Lorem ipsum dolor sit amet, consetetur. ' * 2500}{EMAIL} "
    messages = user(text) * (MEGABYTES * 10)
    async with served(tmp_path, alone, **settings) as gateway:
        await child(gateway)
        for _ in range(200):
            alone.next(whole("Hi [EMAIL_ADDRESS_1]"))
        body = orjson.dumps(chat(messages=messages))
        assert len(body) > MEGABYTES * 1_000_000
        headers = {"x-request-timeout-ms": "60000"}

        async def large() -> Answer:
            async with gateway.client(60) as client:
                await client.send(request(CHAT, body, key=key_of("large"), headers=headers))
                return await client.read()

        running = asyncio.get_running_loop().create_task(large())
        took: list[float] = []
        while not running.done():
            for asked in (gateway.ask("/healthz"), ask(gateway, "small", EMAIL)):
                began_s = time.monotonic()
                answer = await asked
                took.append(time.monotonic() - began_s)
                assert answer.status == 200
            await asyncio.sleep(0.05)
        assert (await running).status == 200
        assert len(took) >= 4 and max(took) < QUICK_S, f"{max(took):.2f} s"
        (seen,) = [seen for seen in alone.seen if len(seen.body) > 1 << 20]
        assert EMAIL.encode() not in seen.body
        assert seen.body.count(b"[EMAIL_ADDRESS_1]") == len(messages)


def marked(**more: Any) -> dict[str, Any]:
    return {**policies(marked={**MASK, "budget_s": 20}), **ADMIN, **more}


async def test_a_gateway_that_dies(tmp_path: Path, alone: Upstream) -> None:
    """What it had begun is told by its successor, without what was masked."""
    marks = [EMAIL, MADE_UP, IBAN, SSN, PHONE]
    labels = {
        "x-gateway-user": EMAIL,
        "x-gateway-tags": f"for={IBAN}",
        "idempotency-key": f"once-{EMAIL}",
        "x-request-id": "dies",
    }
    with redis_server() as server:
        heard = Monitor(server)
        async with served(tmp_path, alone, **marked(storage={"url": server.url})) as gateway:
            alone.next(open_stream(chunk({"content": f"You are {MADE_UP}, "})), hang())
            async with gateway.client() as client:
                body = chat(stream=True, messages=user(f"{EMAIL} {SSN} {PHONE}"))
                await client.send(request(CHAT, body, key=key_of("marked"), headers=labels))
                await came(alone, 1)
                assert (await client.read_head()).status == 200
                gateway.signal(signal.SIGKILL)
                await gateway.ended()
            await gateway.start()
            row = await gateway.row("dies", within_s=25.0)
            assert row["recovered"] is True and row["user"].startswith("[EMAIL_ADDRESS_")
            found = await left_behind(gateway, "marked")
            found |= {"redis": dump(server), "redis monitor": await asyncio.to_thread(heard.heard)}
            assert_without(found, marks)
            assert_without(found, [HASH_KEY, TOKEN])
            assert b"dies" in found["redis monitor"]
        heard.close()


async def test_workers_agree(tmp_path: Path, alone: Upstream) -> None:
    """On hashes and pseudonyms; and their counts are one."""
    with redis_server() as server:
        await _workers_agree(tmp_path, alone, server.url)


async def _workers_agree(tmp_path: Path, alone: Upstream, url: str) -> None:
    settings = marked(server={**ADMIN["server"], "workers": 2}, storage={"url": url})
    settings["tenants"]["marked"]["redaction"] = {"mode": "hash", "entities": ["EMAIL_ADDRESS"]}
    async with served(tmp_path, alone, **settings) as gateway:
        for count in range(8):
            alone.next(whole())
            answer = await ask(gateway, "marked", EMAIL, headers={"x-gateway-user": EMAIL})
            assert answer.status == 200, count
        assert len({seen.json()["messages"][0]["content"] for seen in alone.seen}) == 1
        async with asyncio.timeout(SOON_S):
            while len(rows := gateway.rows()) < 8:
                await asyncio.sleep(0.05)
        assert len({row["user"] for row in rows}) == 1
        labels = {"tenant": "marked", "entity": "EMAIL_ADDRESS", "direction": "input"}
        async with asyncio.timeout(SOON_S):
            while await counted(gateway, "gateway_redactions_total", **labels) < 8:
                await asyncio.sleep(0.05)
        assert EMAIL not in str(rows) and EMAIL.encode() not in gateway.stderr.read_bytes()


async def test_its_children_end_with_a_gateway(tmp_path: Path, alone: Upstream) -> None:
    """Also one that hangs, where the gateway has the time to end it."""
    for ending, hangs in ((Served.kill, False), (Served.stop, False), (Served.stop, True)):
        folder = tmp_path / f"{ending.__name__}-{hangs}"
        folder.mkdir()
        async with served(folder, alone, **marked()) as gateway:
            pid = await child(gateway)
            if hangs:
                os.kill(pid, signal.SIGSTOP)
            ended = ending(gateway)
            if ended is not None:
                await ended
            async with asyncio.timeout(SOON_S):
                while Path(f"/proc/{pid}").exists() and _runs(pid):
                    await asyncio.sleep(0.02)


def _runs(pid: int) -> bool:
    """A zombie does not, whoever should bury it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
