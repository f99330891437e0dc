"""Configuration that changes while serving: taken up soon and whole, or not at all."""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import time
from collections.abc import AsyncIterator
from pathlib import Path
from signal import SIGHUP
from typing import Any

import pytest
import pytest_asyncio
import yaml

from tests.e2e.conditions import Conditions
from tests.e2e.rig import CHAT, PRICE, chat, group
from tests.e2e.served import SOON_S, Served, served
from tests.fakes import answers
from tests.fakes.answers import chat_body, chat_stream, json_answer, open_stream
from tests.fakes.client import request
from tests.fakes.upstream import Step, Upstream, send, wait_for

pytestmark = pytest.mark.asyncio(loop_scope="module")

TAKEN_UP_S = 2.0
CHANGES, CLIENTS, EACH = 5, 10, 20
BEGUN = chat_stream(["one ", "two "])[:3]
REST = answers.chunked(chat_stream(["one ", "two "])[3:])


@pytest_asyncio.fixture(loop_scope="module")
async def upstream() -> AsyncIterator[Upstream]:
    async with Upstream() as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def gateway(tmp_path: Path, upstream: Upstream) -> AsyncIterator[Served]:
    async with served(tmp_path, upstream) as running:
        yield running
        await Conditions(running).check()
        assert await running.stop() == 0
        running.assert_whole()


@pytest.fixture(autouse=True)
def settled() -> None:
    """``gateway`` looks after its own end."""


def says(text: str) -> Step:
    return send(json_answer(chat_body(text)))


def key_entry(id: str, key: str) -> dict[str, str]:
    return {"id": id, "hash": f"sha256:{hashlib.sha256(key.encode()).hexdigest()}"}


def with_keys(*entries: dict[str, str]) -> dict[str, Any]:
    return {"tenants": {"acme": {"keys": list(entries)}}}


async def models(gateway: Served, key: str) -> tuple[int, list[str]]:
    answer = await gateway.ask("/v1/models", key=key)
    return answer.status, [one["id"] for one in answer.json().get("data", [])]


async def test_a_new_model_and_a_new_key_are_taken_up(gateway: Served, upstream: Upstream) -> None:
    second = f"sk-gw-{secrets.token_urlsafe(24)}"
    assert (await models(gateway, second))[0] == 401
    assert (await gateway.chat(model="other")).code == "model_not_found"
    gateway.configure(
        {
            "models": {"other": group()},
            **with_keys(key_entry("ci", gateway.key), key_entry("two", second)),
        }
    )
    await gateway.reloaded("ok", 1, TAKEN_UP_S)
    assert await models(gateway, second) == (200, ["chat", "other"])
    upstream.next(says("hello"))
    assert (await gateway.ask(CHAT, chat(model="other"), key=second)).status == 200


async def test_a_change_in_place_is_taken_up(gateway: Served) -> None:
    """As an editor or a shell writes: truncated, then written."""
    gateway.settings["models"]["other"] = group()
    gateway.config.write_text(yaml.safe_dump(gateway.settings))
    await gateway.reloaded("ok", 1, TAKEN_UP_S)
    assert await models(gateway, gateway.key) == (200, ["chat", "other"])


async def test_a_removed_key_is_refused(gateway: Served, upstream: Upstream) -> None:
    """On the connection that it had opened the door of, too."""
    second = f"sk-gw-{secrets.token_urlsafe(24)}"
    old = gateway.key
    async with gateway.client() as client:
        upstream.next(says("hello"))
        await client.send(request(CHAT, chat(), key=old))
        assert (await client.read()).status == 200
        gateway.configure(with_keys(key_entry("two", second)))
        gateway.signal(SIGHUP)
        await gateway.reloaded("ok", 1)
        await client.send(request(CHAT, chat(), key=old))
        answer = await client.read()
        assert (answer.status, answer.code) == (401, "invalid_api_key")
    assert await models(gateway, second) == (200, ["chat"])


async def test_sighup_takes_up_at_once(gateway: Served) -> None:
    """Each of many quick changes: files alone are looked at every half second, and twice."""
    begun_s = time.monotonic()
    for count in range(10):
        gateway.configure({"aliases": {f"alias-{count}": "chat"}})
        gateway.signal(SIGHUP)
        async with asyncio.timeout(SOON_S):
            while f"alias-{count}" not in (await models(gateway, gateway.key))[1]:
                await asyncio.sleep(0.01)
    assert time.monotonic() - begun_s < 5.0


async def test_a_signal_during_a_reload_is_not_lost(gateway: Served) -> None:
    """The file is a pipe, so that reading it takes as long as the test says."""
    text = yaml.safe_dump({**gateway.settings, "aliases": {"one": "chat"}})
    aside = gateway.config.with_suffix(".pipe")
    os.mkfifo(aside)
    aside.rename(gateway.config)
    pipe = await opened(gateway.config)  # the change was noticed: it is being read
    stat = gateway.config.stat()
    gateway.signal(SIGHUP)
    await gateway.readyz()
    os.write(pipe, text.encode())
    os.close(pipe)
    os.utime(gateway.config, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # nothing new but the signal
    await gateway.reloaded("ok", 1)
    pipe = await opened(gateway.config)
    os.write(pipe, text.replace("one: chat", "two: chat").encode())
    os.close(pipe)
    await gateway.reloaded("ok", 2)
    assert await models(gateway, gateway.key) == (200, ["chat", "two"])
    gateway.write(text)  # no pipe any more, which nobody would write to


async def opened(pipe: Path) -> int:
    """For writing, once somebody reads."""
    async with asyncio.timeout(SOON_S):
        while True:
            try:
                return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
            except OSError:
                await asyncio.sleep(0.01)


async def test_a_change_that_is_taken_back(gateway: Served) -> None:
    """By putting the former file back as it was, soon after a signal had taken up the other."""
    kept = gateway.config.with_suffix(".kept")
    os.link(gateway.config, kept)
    gateway.configure({"aliases": {"nick": "chat"}})
    gateway.signal(SIGHUP)
    await gateway.reloaded("ok", 1)
    assert await models(gateway, gateway.key) == (200, ["chat", "nick"])
    kept.rename(gateway.config)
    await gateway.reloaded("ok", 2, TAKEN_UP_S)
    assert await models(gateway, gateway.key) == (200, ["chat"])


async def test_a_running_stream_keeps_what_it_began_with(gateway: Served, upstream: Upstream) -> None:
    """Its key, its model and its provider's key are gone, its price has changed: it ends as it began."""
    go_on = asyncio.Event()
    upstream.next(open_stream(*BEGUN), wait_for(go_on), send(REST))
    second = f"sk-gw-{secrets.token_urlsafe(24)}"
    async with gateway.client() as client:
        await gateway.begin(client, "old", stream=True)
        await client.read_head()
        for _ in BEGUN:
            assert await client.read_event()
        del gateway.settings["models"]["chat"]
        dear = {name: 1000 * value for name, value in PRICE.items()}
        one = {"provider": "fake", "model": "upstream-model", "price": dear}
        gateway.configure(
            {"models": {"new": group(deployments=[one])}, **with_keys(key_entry("2", second))}
        )
        gateway.signal(SIGHUP)
        await gateway.reloaded("ok", 1)
        assert await models(gateway, second) == (200, ["new"])
        assert (await models(gateway, gateway.key))[0] == 401
        go_on.set()
        events = [event async for event in rest_of(client.read_event)]
    assert events[-1] == b"[DONE]"
    row = await gateway.row("old")
    assert (row["outcome"], row["model"], row["key"]) == ("ok", "chat", "ci")
    assert row["cost_usd"] == "0.000097500"  # 11 tokens in, 7 out, at the former price


async def rest_of(read: Any) -> AsyncIterator[bytes]:
    while (event := await read()) is not None:
        yield event


async def test_a_providers_former_key_stays_out_of_the_log(gateway: Served, upstream: Upstream) -> None:
    """A request that began before the change fails after it, with the former key in the fault."""
    go_on = asyncio.Event()
    fault = {"error": {"message": f"bad key {gateway.provider_key}", "type": "e", "code": "e"}}
    upstream.next(wait_for(go_on), send(json_answer(fault, status="400 Bad Request")))
    async with gateway.client() as client:
        await gateway.begin(client, "rotated")
        changed = f"sk-provider-{secrets.token_urlsafe(24)}"
        gateway.secrets.append(changed)
        gateway.configure({"providers": {"fake": {"api_key": changed}}})
        gateway.signal(SIGHUP)
        await gateway.reloaded("ok", 1)
        go_on.set()
        answer = await client.read()
        assert answer.status >= 400
    assert gateway.provider_key.encode() not in answer.body
    await gateway.line("rotated")
    assert gateway.provider_key not in gateway.stderr.read_text()
    upstream.next(says("with the new one"))
    assert (await gateway.chat()).status == 200
    assert upstream.last.header("authorization") == f"Bearer {changed}"


async def test_workers_need_a_restart(gateway: Served) -> None:
    gateway.configure({"server": {"workers": 2}})
    gateway.signal(SIGHUP)
    await gateway.reloaded("rejected", 1)
    assert "server.workers" in (await gateway.readyz())[1]["config"]["rejected"]


async def test_an_invalid_change_changes_nothing(gateway: Served, upstream: Upstream) -> None:
    before = (await gateway.readyz())[1]["config"]["hash"]
    good = gateway.config.read_text()
    gateway.write(good.replace("first_event_s: 3", "first_event_s: soon") + "zzz: 1\naliases: {a: b}\n")
    gateway.signal(SIGHUP)
    await gateway.reloaded("rejected", 1)
    faults = {line["fault"] for line in await gateway.logged("config_rejected", 3)}
    assert len(faults) == 3
    lines = gateway.config.read_text().splitlines()
    for word, what in (("first_event_s: soon", "first_event_s"), ("zzz", "zzz"), ("aliases", "aliases")):
        number = next(i for i, line in enumerate(lines, 1) if word in line)
        assert any(f.startswith(f"{gateway.config}:{number}: ") and what in f for f in faults), faults
    status, state = await gateway.readyz()
    assert (status, state["ready"], state["config"]["hash"]) == (200, True, before)
    shown = state["config"]["rejected"]
    for fault in faults:
        place, _, message = fault.partition(": ")
        assert place.rpartition("/")[2] in shown and message.partition(": ")[2] not in shown
    upstream.next(says("as before"))
    assert (await gateway.chat()).status == 200
    gateway.write(good.replace("first_event_s: 3", "first_event_s: 4"))
    gateway.signal(SIGHUP)
    await gateway.reloaded("ok", 1)
    state = (await gateway.readyz())[1]
    assert state["config"]["rejected"] is None and state["config"]["hash"] != before


async def test_back_to_what_is_served_clears_the_fault(gateway: Served) -> None:
    good = gateway.config.read_text()
    gateway.write("")
    gateway.signal(SIGHUP)
    await gateway.reloaded("rejected", 1)
    assert (await gateway.readyz())[1]["config"]["rejected"]
    gateway.write(good)
    gateway.signal(SIGHUP)
    await gateway.reloaded("ok", 1)
    assert (await gateway.readyz())[1]["config"]["rejected"] is None


async def test_what_is_no_configuration_changes_nothing(gateway: Served) -> None:
    """Empty, comments only, no text, cut off, no mapping, one that holds itself, one long word."""
    contents = [
        b"",
        b"\n# nothing\n",
        b"\xff\xfe\x00",
        b"server: [",
        b"[1, 2]",
        b"a: &a [*a]\n",
        b"x" * 100_000,
    ]
    for content in contents:
        count = (await gateway.reloads()).get("rejected", 0)
        gateway.config.write_bytes(content)
        gateway.signal(SIGHUP)
        await gateway.reloaded("rejected", int(count) + 1)
        assert await models(gateway, gateway.key) == (200, ["chat"])
    faults = {line["fault"] for line in await gateway.logged("config_rejected", len(contents))}
    assert len(faults) >= 4
    for fault in faults:
        assert fault.startswith(f"{gateway.config}:") and len(fault) < 1000, fault
    assert (await gateway.reloads()).get("ok", 0) == 0


async def test_a_removed_file_changes_nothing(gateway: Served) -> None:
    good = gateway.config.read_text()
    gateway.config.unlink()
    await gateway.reloaded("rejected", 1, TAKEN_UP_S)
    line = (await gateway.logged("config_rejected"))[0]
    assert line["fault"] == f"{gateway.config}:1: cannot be read: No such file or directory"
    assert await models(gateway, gateway.key) == (200, ["chat"])
    gateway.config.write_text(good)
    await gateway.reloaded("ok", 1, TAKEN_UP_S)


async def test_what_needs_a_restart_is_refused(tmp_path: Path, upstream: Upstream) -> None:
    gateway = Served(tmp_path, upstream, {"server": {"port": 0}})
    gateway.arguments = []
    try:
        await gateway.start()
        former = gateway.settings
        fixed = (
            ("server", "host", "127.0.0.2"),
            ("server", "port", gateway.port),
            ("storage", "data_dir", str(tmp_path / "elsewhere")),
        )
        for count, (section, name, value) in enumerate(fixed, 1):
            gateway.settings = former
            gateway.configure({section: {name: value}, "aliases": {"new": "chat"}})
            gateway.signal(SIGHUP)
            what = "storage" if section == "storage" else f"server.{name}"
            rejected = f"needs restart: {what} cannot change while serving"
            async with asyncio.timeout(SOON_S):
                while (await gateway.readyz())[1]["config"]["rejected"] != rejected:
                    await asyncio.sleep(0.02)
                while rejected not in gateway.stderr.read_text():
                    await asyncio.sleep(0.02)
            assert (await gateway.reloads())["rejected"] >= count
            assert await models(gateway, gateway.key) == (200, ["chat"])
        assert await gateway.stop() == 0
        assert not (tmp_path / "elsewhere").exists()
    finally:
        gateway.kill()


async def test_what_the_command_line_decides_needs_no_restart(gateway: Served) -> None:
    """The port was given there: what the file says of it was never in force."""
    gateway.configure({"server": {"port": 1234}, "aliases": {"new": "chat"}})
    gateway.signal(SIGHUP)
    await gateway.reloaded("ok", 1)
    assert await models(gateway, gateway.key) == (200, ["chat", "new"])


async def test_a_folder_of_files(tmp_path: Path, upstream: Upstream) -> None:
    """A file replaced by renaming, another added, one removed, all removed: each is seen."""
    gateway = Served(tmp_path, upstream, {})
    folder = tmp_path / "conf.d"
    folder.mkdir()
    for name, section in gateway.settings.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump({name: section}))
    gateway.config = folder
    try:
        await gateway.start()
        aside = folder / ".models.yaml.swp"
        aside.write_text(yaml.safe_dump({"models": {"chat": group(), "other": group()}}))
        aside.rename(folder / "models.yaml")
        await gateway.reloaded("ok", 1, TAKEN_UP_S)
        assert await models(gateway, gateway.key) == (200, ["chat", "other"])

        (folder / "aliases.yml").write_text("aliases: {nick: chat}\n")
        await gateway.reloaded("ok", 2, TAKEN_UP_S)
        assert await models(gateway, gateway.key) == (200, ["chat", "nick", "other"])

        (folder / "aliases.yml").unlink()
        await gateway.reloaded("ok", 3, TAKEN_UP_S)
        assert await models(gateway, gateway.key) == (200, ["chat", "other"])

        (folder / "again.yaml").write_text("models: {}\n")
        gateway.signal(SIGHUP)
        await gateway.reloaded("rejected", 1)
        assert "models.yaml" in (await gateway.readyz())[1]["config"]["rejected"]

        for file in folder.iterdir():
            file.unlink()
        gateway.signal(SIGHUP)
        async with asyncio.timeout(SOON_S):
            while f"{folder}:1: holds no *.yaml" not in gateway.stderr.read_text():
                await asyncio.sleep(0.02)
        assert "conf.d:1" in str(await gateway.readyz())
        assert await models(gateway, gateway.key) == (200, ["chat", "other"])
        assert await gateway.stop() == 0
        gateway.assert_whole()
    finally:
        gateway.kill()


async def test_a_mounted_volume_is_swapped(tmp_path: Path, upstream: Upstream) -> None:
    """As Kubernetes does: the files are links through ``..data``, which is renamed over."""
    gateway = Served(tmp_path, upstream, {})
    folder, version = tmp_path / "mounted", "..v1"
    (folder / version).mkdir(parents=True)
    (folder / version / "gateway.yaml").write_text(yaml.safe_dump(gateway.settings))
    (folder / "..data").symlink_to(version)
    (folder / "gateway.yaml").symlink_to("..data/gateway.yaml")
    gateway.config = folder
    try:
        await gateway.start()
        (folder / "..v2").mkdir()
        changed = {**gateway.settings, "aliases": {"nick": "chat"}}
        (folder / "..v2" / "gateway.yaml").write_text(yaml.safe_dump(changed))
        (folder / "..data_tmp").symlink_to("..v2")
        (folder / "..data_tmp").rename(folder / "..data")
        await gateway.reloaded("ok", 1, TAKEN_UP_S)
        assert await models(gateway, gateway.key) == (200, ["chat", "nick"])
        assert await gateway.stop() == 0
    finally:
        gateway.kill()


async def test_a_ca_file_that_is_not_there(gateway: Served, upstream: Upstream, tmp_path: Path) -> None:
    """Whatever is made of it: what was served is served on."""
    provider = {"kind": "openai", "base_url": "https://127.0.0.1:1/v1", "ca_file": str(tmp_path / "none")}
    gateway.configure({"providers": {"secure": provider}, "models": {"secure": group("secure")}})
    gateway.signal(SIGHUP)
    async with asyncio.timeout(SOON_S):
        while not sum((await gateway.reloads()).values()):
            await asyncio.sleep(0.02)
    upstream.next(says("hello"))
    assert (await gateway.chat()).status == 200
    assert (await gateway.chat(model="secure")).status in (404, 502)


async def test_reloads_under_load_fail_nothing(gateway: Served, upstream: Upstream) -> None:
    """Requests all the time, half of them streamed, while the files change: all are answered, over
    the connections that were there."""
    done = 0

    async def one(number: int) -> None:
        nonlocal done
        async with gateway.client() as client:
            for turn in range(EACH):
                stream = bool((number + turn) % 2)
                await gateway.begin(client, f"load-{number}-{turn}", stream=stream)
                answer = await client.read()
                assert answer.status == 200, answer.body
                assert not stream or answer.events[-1] == b"[DONE]"
                done += 1
                await asyncio.sleep(0.05)

    for _ in range(CLIENTS * EACH):
        upstream.next(either)
    work = asyncio.gather(*(one(number) for number in range(CLIENTS)))
    for count in range(1, CHANGES + 1):
        begun = done
        gateway.configure({"aliases": {f"alias-{count}": "chat"}, "server": {"drain_s": 5 + count}})
        gateway.signal(SIGHUP)
        await gateway.reloaded("ok", count)
        async with asyncio.timeout(SOON_S):
            while done < begun + CLIENTS:
                await asyncio.sleep(0.01)
    during = done
    await work
    assert done == CLIENTS * EACH > during
    assert len(upstream.connections) <= CLIENTS


async def either(connection: Any) -> None:
    """Answers as it is asked to: streamed or whole."""
    if connection.running.json().get("stream"):
        for step in answers.stream(chat_stream(["one ", "two "])):
            await step(connection)
    else:
        await says("hello")(connection)
