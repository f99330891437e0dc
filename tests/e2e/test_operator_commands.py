"""``llm-gateway kill`` and ``keys``, as an operator runs them against a gateway that serves."""

from __future__ import annotations

import asyncio
import subprocess
from typing import Any

import pytest

from tests.e2e.operators import ADMIN, TOKEN
from tests.e2e.rig import Gateway
from tests.e2e.served import command
from tests.fakes.answers import chat_body, json_answer
from tests.fakes.upstream import Upstream, send

pytestmark = pytest.mark.asyncio(loop_scope="module")

OK = json_answer(chat_body("fine"))


@pytest.fixture(scope="module")
def changes() -> dict[str, Any]:
    return ADMIN


async def run(gateway: Gateway, *words: str, token: str = TOKEN) -> subprocess.CompletedProcess[str]:
    arguments = [*words, "--url", gateway.url]
    return await asyncio.to_thread(lambda: command(*arguments, GATEWAY_ADMIN_TOKEN=token))


async def test_kill(gateway: Gateway, upstream: Upstream) -> None:
    done = await run(gateway, "kill", "on", "tenant", "acme", "--reason", "too much", "--cut-streams")
    assert (done.returncode, done.stdout, done.stderr) == (0, "on: tenant acme\n", "")
    answer = await gateway.chat()
    assert answer.status == 403 and "too much" in answer.json()["error"]["message"]
    done = await run(gateway, "kill", "list")
    assert done.stdout.startswith("tenant acme since ") and done.stdout.endswith(": too much\n")
    done = await run(gateway, "kill", "off", "tenant", "acme")
    assert (done.returncode, done.stdout) == (0, "off: tenant acme\n")
    upstream.next(send(OK))
    assert (await gateway.chat()).status == 200
    assert (await run(gateway, "kill", "list")).stdout == "nothing is stopped\n"


async def test_kill_of_something_unknown_is_told(gateway: Gateway) -> None:
    done = await run(gateway, "kill", "on", "feature", "a b/c", "--reason", "x", "--expires-s", "600")
    assert done.returncode == 0 and done.stderr.startswith("note: nothing here has this name")
    assert " until 2" in (await run(gateway, "kill", "list")).stdout
    assert (await run(gateway, "kill", "off", "feature", "a b/c")).returncode == 0
    done = await run(gateway, "kill", "off", "feature", "a b/c")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "There is no kill switch feature a b/c that is on." in done.stderr


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("kill", "on", "tenant", "acme"), 2, "--reason"),
        (("kill", "on", "everything", "--reason", "x"), 2, "use one of all, tenant"),
        (("kill", "on", "all", "x", "--reason", "x"), 2, "takes no name"),
        (("kill", "on", "model", "--reason", "x"), 2, "say which model"),
        (("kill", "on", "all", "--reason", ""), 1, "reason"),
        (("keys", "list", "--tenant", "nobody"), 1, "There is no tenant 'nobody'."),
        (("keys", "revoke", "nobody", "--tenant", "acme"), 1, "has no key 'nobody'"),
        (("keys", "rotate", "nobody", "--tenant", "acme"), 1, "has no key 'nobody'"),
        (("keys", "new", "--tenant", "acme", "--id", "ci"), 1, "has a key 'ci' already"),
    ],
)
async def test_what_is_refused(gateway: Gateway, words: tuple[str, ...], code: int, said: str) -> None:
    done = await run(gateway, *words)
    assert done.returncode == code, done.stderr
    assert said in done.stderr and "Traceback" not in done.stderr
    if code == 1:
        assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1


async def test_a_wrong_token(gateway: Gateway) -> None:
    done = await run(gateway, "kill", "list", token="wrong-token-0123456789abcdef0123456789ab")
    assert done.returncode == 1 and "refuses the admin token" in done.stderr


async def test_keys(gateway: Gateway) -> None:
    def secret(done: subprocess.CompletedProcess[str]) -> str:
        assert (done.returncode, done.stderr) == (0, "")
        found = done.stdout.splitlines()[0].removeprefix("secret, shown this once: ")
        gateway.secrets.append(found)
        return found

    async def status(key: str) -> int:
        return (await gateway.ask("/v1/models", key=key)).status

    first = secret(await run(gateway, "keys", "new", "--tenant", "acme", "--id", "cli", "--model", "chat"))
    assert await status(first) == 200
    done = await run(gateway, "keys", "list", "--tenant", "acme")
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["ci", "cli"]
    assert first not in done.stdout
    words = ("keys", "rotate", "cli", "--tenant", "acme", "--new-id", "cli-2", "--overlap-s", "0")
    second = secret(await run(gateway, *words))
    assert (await status(first), await status(second)) == (403, 200)
    done = await run(gateway, "keys", "revoke", "cli-2", "--tenant", "acme", "--cut-streams")
    assert (done.returncode, done.stdout) == (0, "revoked: acme cli-2\n")
    assert await status(second) == 401


async def test_help_names_everything() -> None:
    def text(*words: str) -> str:
        done = command(*words, "--help")
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    assert "kill" in text()
    assert all(word in text("kill") for word in ("on", "off", "list"))
    assert all(word in text("kill", "on") for word in ("--reason", "--expires-s", "--cut-streams", "--url"))
    assert all(word in text("keys") for word in ("new", "list", "revoke", "rotate"))
