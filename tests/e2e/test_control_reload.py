"""What operators have decided, over restarts and reloads."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest
import pytest_asyncio

from tests.e2e.operators import ADMIN, admin, kill, new_key, unkill
from tests.e2e.refusals import assert_refused
from tests.e2e.rig import CHAT, chat
from tests.e2e.served import served
from tests.fakes.answers import chat_body, chat_stream, json_answer, open_stream
from tests.fakes.client import request
from tests.fakes.upstream import Upstream, hang, send

pytestmark = pytest.mark.asyncio(loop_scope="module")

OK = json_answer(chat_body("fine"))
BEGUN = chat_stream(["one ", "two "])[:3]


@pytest_asyncio.fixture(loop_scope="module")
async def upstream() -> AsyncIterator[Upstream]:
    async with Upstream() as running:
        yield running


@pytest.fixture(autouse=True)
def settled() -> None:
    """Each test here looks after a gateway of its own."""


async def test_a_restart_keeps_switches(tmp_path: Path, upstream: Upstream) -> None:
    async with served(tmp_path, upstream, **ADMIN) as gateway:
        await kill(gateway, "tenant/acme", expires_s=600)
        await kill(gateway, "model/chat")
        await unkill(gateway, "model/chat")
        gateway.kill()  # without any goodbye
        await gateway.start()
        listed = (await admin(gateway, "GET", "kill-switches")).json()["data"]
        assert [(one["scope"], one["name"]) for one in listed] == [("tenant", "acme")]
        assert_refused(await gateway.chat(), 403, "kill_switch")
        await unkill(gateway, "tenant/acme")
        upstream.next(send(OK))
        assert (await gateway.chat()).status == 200
        assert await gateway.stop() == 0


async def test_switches_of_the_configuration(tmp_path: Path, upstream: Upstream) -> None:
    async with served(tmp_path, upstream, **ADMIN) as gateway:
        upstream.next(open_stream(*BEGUN), hang())
        async with gateway.client() as client:
            await client.send(request(CHAT, chat(stream=True), key=gateway.key))
            assert (await client.read_head()).status == 200
            written = {"scope": "model", "name": "chat", "reason": "written", "cut_streams": True}
            gateway.configure({"kill_switches": [written]})
            last = b""
            while (event := await client.read_event()) is not None:
                last = event
            assert orjson.loads(last)["error"]["code"] == "kill_switch"
        assert_refused(await gateway.chat(), 403, "kill_switch")
        listed = (await admin(gateway, "GET", "kill-switches")).json()["data"]
        assert [(one["source"], one["reason"]) for one in listed] == [("file", "written")]
        answer = await admin(gateway, "DELETE", "kill-switches/model/chat")
        assert_refused(answer, 400, "invalid_request")
        await kill(gateway, "tenant/acme")
        gateway.configure({"kill_switches": []})
        await gateway.reloaded("ok", 2)
        assert_refused(await gateway.chat(), 403, "kill_switch")
        await unkill(gateway, "tenant/acme")
        upstream.next(send(OK))
        assert (await gateway.chat()).status == 200
        assert await gateway.stop() == 0


async def test_keys_outlive_a_restart_and_a_reload(tmp_path: Path, upstream: Upstream) -> None:
    async with served(tmp_path, upstream, **ADMIN) as gateway:
        kept = await new_key(gateway, id="kept", models=["chat"])
        gone = await new_key(gateway, id="gone")
        assert (await admin(gateway, "DELETE", "tenants/acme/keys/gone")).status == 200
        assert (await admin(gateway, "DELETE", "tenants/acme/keys/ci")).status == 200
        gateway.kill()
        await gateway.start()

        async def status(secret: str) -> int:
            return (await gateway.ask("/v1/models", key=secret)).status

        for _ in range(2):
            assert await status(kept["secret"]) == 200
            assert await status(gone["secret"]) == 401
            assert await status(gateway.key) == 401  # revoked, although it stands in the file
            gateway.configure({"aliases": {"fast": "chat"}})
            await gateway.reloaded("ok", 1)
        gateway.configure({"tenants": {"acme": {"keys": [{"id": "kept", "hash": f"sha256:{'0' * 64}"}]}}})
        await gateway.reloaded("ok", 2)
        assert await status(kept["secret"]) == 401  # the configuration has another key of this name
        gateway.configure({"tenants": {"acme": {"keys": []}}})
        await gateway.reloaded("ok", 3)
        assert await status(kept["secret"]) == 200
        for name in ("stdout", "stderr"):
            text = (tmp_path / name).read_text()
            assert kept["secret"] not in text and gone["secret"] not in text
        held = (tmp_path / "data" / "control.json").read_text()
        assert kept["hash"].removeprefix("sha256:") in held and kept["secret"] not in held
        assert await gateway.stop() == 0
