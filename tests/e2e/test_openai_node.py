"""The official OpenAI library for Node, unchanged, by base URL alone."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.e2e.rig import ROOT, Gateway
from tests.fakes import answers
from tests.fakes.answers import chat_body, chat_stream, chunk, error_answer, open_stream, stream
from tests.fakes.upstream import Upstream, fin, hang, send

pytestmark = pytest.mark.asyncio(loop_scope="module")

FOLDER = ROOT / "tests" / "clients" / "node"
RUN_S = 30.0


@pytest.fixture(scope="module")
def node() -> Path:
    """The folder of the scripts, with what they need installed."""
    assert shutil.which("node"), "node is needed: sh tests/setup.sh node"
    if not (FOLDER / "node_modules" / "openai").exists():
        command = ["npm", "ci", "--silent", "--no-audit", "--no-fund"]
        subprocess.run(command, cwd=FOLDER, check=True, timeout=120, capture_output=True)
    return FOLDER


async def run(gateway: Gateway, folder: Path, script: str) -> Any:
    """What the script reports."""
    process = await asyncio.create_subprocess_exec(
        "node",
        script,
        cwd=folder,
        env={"PATH": os.environ["PATH"], "BASE_URL": f"{gateway.url}/v1", "API_KEY": gateway.key},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), RUN_S)
    assert process.returncode == 0, err.decode()
    return orjson.loads(out)


async def test_answers(gateway: Gateway, upstream: Upstream, node: Path) -> None:
    upstream.next(send(answers.json_answer(chat_body("one", "two"))))
    upstream.next(send(answers.json_answer(answers.completion_body("upon a time"))))
    upstream.next(send(answers.json_answer(answers.embedding_body([0.5, 1.0], [2.0, 4.0]))))
    result = await run(gateway, node, "answers.mjs")
    row = await gateway.row(result.pop("requestId"))
    assert row["outcome"] == "ok"
    assert result == {
        "chat": ["one", "two"],
        "usage": 18,
        "completion": "upon a time",
        "embedding": [[0.5, 1.0], [2.0, 4.0]],
        "models": ["chat"],
        "retrieved": "chat",
    }
    assert upstream.seen[0].json()["temperature"] == 0.5


async def test_streams(gateway: Gateway, upstream: Upstream, node: Path) -> None:
    upstream.next(*stream(chat_stream(["Grüße ", "aus ", "𝄞"], null_usage=True, azure=True), size=7))
    calls = [
        chunk({"role": "assistant", "content": None}),
        answers.tool_start(0, "call_1", "weather"),
        *(answers.tool_args(0, a) for a in ('{"ci', 'ty":1}')),
    ]
    upstream.next(*stream([*calls, chunk({}, finish="tool_calls"), answers.DONE]))
    assert await run(gateway, node, "streams.mjs") == {
        "text": "Grüße aus 𝄞",
        "usage": 18,
        "finish": "tool_calls",
        "calls": [["weather", '{"city":1}']],
    }


async def test_failures(gateway: Gateway, upstream: Upstream, node: Path) -> None:
    upstream.next(send(error_answer("429 Too Many Requests")))
    upstream.next(send(error_answer("500 Internal Server Error")))
    upstream.next(open_stream(chunk({"content": "half of "})), fin())
    result = await run(gateway, node, "failures.mjs")
    assert result.pop("heard") == "half of "
    found = {name: (error["name"], error["status"], error["code"]) for name, error in result.items()}
    assert found == {
        "unauthorized": ("AuthenticationError", 401, "invalid_api_key"),
        "unknownModel": ("NotFoundError", 404, "model_not_found"),
        "invalid": ("BadRequestError", 400, "invalid_request"),
        "limited": ("RateLimitError", 429, "upstream_rate_limited"),
        "broken": ("InternalServerError", 502, "upstream_error"),
        "cut": ("APIError", None, "upstream_error"),
    }
    assert all(result[name]["requestId"] for name in result if name != "cut")


async def test_leaving(gateway: Gateway, upstream: Upstream, node: Path) -> None:
    upstream.next(open_stream(*(chunk({"content": f"{number} "}) for number in range(5))), hang())
    assert await run(gateway, node, "leaves.mjs") == {"heard": 2}
    await upstream.last.left(1.0)
    assert gateway.rows()[-1]["outcome"] == "client_gone"
