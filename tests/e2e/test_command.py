"""The command, as a shell runs it: what it prints works, what it refuses it explains."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml

from gateway import __version__
from tests.e2e.rig import ROOT
from tests.e2e.served import command

START_S = 30.0
STOP_S = 10.0
MAX_RSS_KB = 120 * 1024
HEAVY = {"litellm", "presidio_analyzer", "presidio_anonymizer", "spacy", "httpx", "openai", "tiktoken"}

CONFIG = """\
server: {{port: 0}}
storage: {{data_dir: {data}}}
providers:
  simulated: {{kind: simulated}}
models:
  chat: {{deployments: [{{provider: simulated, model: simulated-1, price: {price}}}]}}
tenants:
  acme:
    models: ["*"]
    keys:
"""
PRICE = "{input_per_mtok_usd: 1, output_per_mtok_usd: 1}"


@pytest.fixture(autouse=True)
def settled() -> None:
    """Each test here looks after a process of its own."""


class Running:
    """A command that serves. ``out``: its standard output so far, up to what was waited for."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.folder = folder
        self.stderr = folder.parent / f"{folder.name}.stderr"
        environ = {"PATH": os.environ["PATH"], "TMPDIR": str(folder), "PYTHONPATH": str(ROOT)}
        with self.stderr.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, *arguments], stdout=subprocess.PIPE, stderr=err, cwd=folder, env=environ
            )
        self.out = ""

    def read_until(self, pattern: str) -> re.Match[str]:
        assert self.process.stdout is not None
        os.set_blocking(self.process.stdout.fileno(), False)
        deadline_s = time.monotonic() + START_S
        while not (found := re.search(pattern, self.out, re.MULTILINE | re.DOTALL)):
            assert self.process.poll() is None and time.monotonic() < deadline_s, self.stderr.read_text()
            self.out += (self.process.stdout.read() or b"").decode()
            time.sleep(0.01)
        return found

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(STOP_S)


@contextmanager
def running(folder: Path, *arguments: str) -> Iterator[Running]:
    folder.mkdir()
    one = Running(folder, *arguments)
    try:
        yield one
    finally:
        one.process.kill()
        one.process.wait()
        assert one.process.stdout is not None
        one.process.stdout.close()


def sh(line: str) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    return subprocess.run(
        ["sh", "-c", line], capture_output=True, text=True, timeout=30, env=environ, check=False
    )


def served_config(folder: Path, *keys: str) -> Path:
    file = folder / "gateway.yaml"
    entries = "\n".join(f"    {key}" for key in keys) or "      []"
    file.write_text(CONFIG.format(data=folder / "data", price=PRICE) + entries + "\n")
    return file


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_the_demo_works_as_it_says(tmp_path: Path, stop: signal.Signals) -> None:
    """Its curl line, run by a shell, gets an answer; it ends with 0 and leaves nothing."""
    with running(tmp_path / "here", "-m", "gateway", "demo", "--port", "0") as demo:
        demo.read_until(r"nothing is kept\.\n")
        url = demo.read_until(r"\Alistening on (http://127\.0\.0\.1:\d+)\n")[1]
        key = demo.read_until(r"^ *API key +(gw-demo-\S{32})$")[1]
        assert demo.read_until(r"^ *base URL +(\S+)$")[1] == f"{url}/v1"
        line = demo.read_until(r"^ *(curl .*?[^\\])$")[1]
        done = sh(f"{line} -sS")
        assert done.returncode == 0, done.stderr
        head, _, body = done.stdout.replace("\r\n", "\n").partition("\n\n")
        assert head.startswith("HTTP/1.1 200 OK\n") and "x-gateway-cost-usd: 0.0" in head.lower()
        assert json.loads(body)["choices"][0]["message"]["content"]
        streamed = sh(line.replace('{"model"', '{"stream": true, "model"') + " -sS").stdout
        assert streamed.rstrip().endswith("data: [DONE]")
        assert sh(f"curl -sS {url}/v1/models -H 'Authorization: Bearer {key}'").stdout.count('"demo"') == 1
        assert key not in demo.stderr.read_text()
        assert demo.end(stop) == 0
        assert list(demo.folder.iterdir()) == []
        assert "Traceback" not in demo.stderr.read_text()


def test_a_demo_that_cannot_listen(tmp_path: Path) -> None:
    done = command("demo", "--port", "0", "--host", "192.0.2.1", TMPDIR=str(tmp_path))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: cannot listen on 192.0.2.1:0: ") and done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words, taught",
    [
        ((), ("demo", "serve", "check", "schema", "keys", "--version", "Start with `llm-gateway demo`")),
        (("demo",), ("--host", "--port", "nothing configured", "Nothing leaves this machine")),
        (("serve",), ("--config", "--host", "--port", "--workers", "YAML file, or a folder", "SIGHUP")),
        (("check",), ("--config", "without serving", "every fault")),
        (("schema",), ("JSON Schema", "editors")),
        (("keys",), ("new", "Virtual keys")),
        (("keys", "new"), ("--tenant", "--id", "shown this once")),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else None,
)
def test_help_teaches(words: tuple[str, ...], taught: tuple[str, ...]) -> None:
    done = command(*words, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert all(word in done.stdout for word in taught), done.stdout


@pytest.mark.parametrize(
    "words, said",
    [
        (("srve",), "Did you mean 'serve'?"),
        (("serve",), "--config"),
        (("serve", "--config", "x", "--port", "70000"), "--port"),
        (("serve", "--config", "x", "--port", "http"), "--port"),
        (("serve", "--config", "x", "--workers", "0"), "--workers"),
        (("serve", "--config", "x", "--workers", "some"), "--workers"),
        (("check", "--confg", "x"), "--config"),
        (("check", "--config"), "requires an argument"),
        (("demo", "extra"), "extra"),
        (("keys", "new"), "--tenant"),
        (("keys", "new", "--tenant", "a b"), "letters, digits"),
        (("keys",), "Usage: "),
        ((), "Usage: "),
    ],
    ids=lambda value: " ".join(value) or "nothing" if isinstance(value, tuple) else "",
)
def test_wrong_usage(words: tuple[str, ...], said: str) -> None:
    done = command(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_several_workers_without_a_store(tmp_path: Path) -> None:
    done = command("serve", "--config", str(served_config(tmp_path)), "--workers", "2", "--port", "0")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--workers" in done.stderr and "storage.url" in done.stderr and "memory://" in done.stderr


def test_the_version() -> None:
    for name in ([sys.executable, "-m", "gateway"], [str(Path(sys.executable).with_name("llm-gateway"))]):
        done = subprocess.run([*name, "--version"], capture_output=True, text=True, timeout=30, check=False)
        assert (done.returncode, done.stdout) == (0, f"llm-gateway {__version__}\n")


def test_check_says_yes_or_no(tmp_path: Path) -> None:
    file = served_config(tmp_path)
    done = command("check", "--config", str(file))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("ok: 1 model, 1 provider, 1 tenant, 0 keys; ")
    assert not (tmp_path / "data").exists()  # nothing is served, nothing is kept
    file.write_text(file.read_text().replace("simulated-1", "x, wieght: 2").replace("port: 0", "port: no"))
    done = command("check", "--config", str(file))
    assert (done.returncode, done.stdout) == (1, "")
    first, second, count = done.stderr.splitlines()
    assert first.startswith(f"{file}:1: server.port: ")
    assert second.startswith(f"{file}:6: models.chat.deployments[0].wieght: ")
    assert second.endswith("(did you mean weight?)")
    assert count == "2 faults"


def test_the_schema_is_one() -> None:
    done = command("schema")
    assert (done.returncode, done.stderr) == (0, "")
    schema = json.loads(done.stdout)
    validator = jsonschema.validators.validator_for(schema)
    assert validator is not jsonschema.Draft3Validator  # it names its dialect
    validator.check_schema(schema)
    config = yaml.safe_load(CONFIG.format(data="data", price=PRICE) + "      []")
    assert list(validator(schema).iter_errors(config)) == []
    config["server"]["prot"] = 1
    [error] = validator(schema).iter_errors(config)
    assert list(error.path) == ["server"]


def test_a_new_key_opens_the_door(tmp_path: Path) -> None:
    """The line as it is printed goes into the file, the secret to the app."""
    made = command("keys", "new", "--tenant", "acme", "--id", "web")
    assert (made.returncode, made.stderr) == (0, "")
    told, where, entry = made.stdout.splitlines()
    secret = told.removeprefix("secret, shown this once: ")
    assert where == "paste this under tenants.acme.keys:"
    file = served_config(tmp_path, entry)
    with running(tmp_path / "here", "-m", "gateway", "serve", "--config", str(file)) as gateway:
        url = gateway.read_until(r"\Alistening on (\S+)\n\Z")[1]
        models = f"curl -sS -w '%{{http_code}}' {url}/v1/models -H 'Authorization: Bearer "
        assert sh(f"{models}{secret}'").stdout.endswith("200")
        assert sh(f"{models}{secret[:-1]}'").stdout.endswith("401")
        assert gateway.end(signal.SIGTERM) == 0
        assert gateway.out.count("\n") == 1


def test_serving_imports_and_holds_little(tmp_path: Path) -> None:
    """Nothing heavy is imported before it is needed, nor by a request that does not need it."""
    made = command("keys", "new", "--tenant", "acme")
    file = served_config(tmp_path, made.stdout.splitlines()[2])
    secret = made.stdout.splitlines()[0].rsplit(" ", 1)[1]
    arguments = ("-X", "importtime", "-m", "gateway", "serve", "--config", str(file))
    with running(tmp_path / "here", *arguments) as gateway:
        url = gateway.read_until(r"\Alistening on (\S+)\n")[1]
        body = '{"model":"chat","messages":[{"role":"user","content":"Hello"}]}'
        headers = f"-H 'Authorization: Bearer {secret}' -H 'Content-Type: application/json'"
        done = sh(f"curl -sS {headers} {url}/v1/chat/completions -d '{body}'")
        assert json.loads(done.stdout)["choices"]
        status = Path(f"/proc/{gateway.process.pid}/status").read_text()
        rss_kb = int(re.findall(r"^VmRSS:\s+(\d+) kB$", status, re.MULTILINE)[0])
        assert rss_kb < MAX_RSS_KB
        assert gateway.end(signal.SIGTERM) == 0
        found = re.findall(r"^import time: .*\| +([\w.]+)$", gateway.stderr.read_text(), re.MULTILINE)
    imported = {name.partition(".")[0] for name in found}
    assert {"gateway", "uvloop", "uvicorn"} <= imported
    assert not imported & HEAVY


def test_checking_imports_no_server(tmp_path: Path) -> None:
    arguments = ["-X", "importtime", "-m", "gateway", "check", "-c", str(served_config(tmp_path))]
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, cwd=ROOT, timeout=30, check=False
    )
    found = re.findall(r"^import time: .*\| +([\w.]+)$", done.stderr, re.MULTILINE)
    imported = {name.partition(".")[0] for name in found}
    assert {"gateway", "pydantic", "yaml"} <= imported
    assert not imported & (HEAVY | {"fastapi", "uvicorn", "uvloop", "prometheus_client"})
