"""``llm-gateway check``, ``schema`` and ``keys new``, as processes."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.settings import loads
from gateway.storage.interface import StoreRefused
from gateway.storage.opening import open_store
from tests.unit.test_settings_faults import HASH, VALID, changed

CONFIG = Path(__file__).parents[2] / "config"


def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gateway", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env={"PATH": os.environ["PATH"], "COLUMNS": "200", **environ},
    )


def test_check_of_a_valid_configuration() -> None:
    done = run("check", "--config", str(CONFIG))
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(
        r"ok: 3 models, 2 providers, 1 tenant, 1 key; configuration [0-9a-f]{16}\n", done.stdout
    )


def test_check_warns_of_tags_that_are_hashed_without_a_key(tmp_path: Path) -> None:
    """Where anything is done but counted, at any model."""
    file, warning = (
        tmp_path / "c.yaml",
        "tags are hashed with a key that can be guessed; set privacy.hash_key",
    )
    for section, warned in (
        ("{mode: mask}", True),
        ("{mode: 'off', models: {gpt-4o: {mode: block}}}", True),
        ("{mode: flag, actions: {US_SSN: block}}", True),
        ("{mode: flag}", False),
        ("{mode: mask, direction: output}", True),
        ("{mode: 'off'}", False),
    ):
        file.write_text(VALID.replace("    keys:", f"    redaction: {section}\n    keys:"))
        done = run("check", "-c", str(file))
        assert done.returncode == 0 and done.stdout.startswith("ok: ")
        assert done.stderr == (f"warning: tenants.acme.redaction: {warning}\n" if warned else "")
    file.write_text(file.read_text().replace("'off'", "mask") + "privacy: {hash_key: 0123456789abcdef}\n")
    assert run("check", "-c", str(file)).stderr == ""


def test_check_tells_every_fault(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(changed("8080", "${PORT}") + "zzz: 1\n")
    done = run("check", "-c", str(file))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines() == [
        f"{file}:2: server.port: the environment variable PORT is not set: "
        "set it, or give a default: ${PORT:-}",
        f"{file}:24: zzz: is not a known key",
        "2 faults",
    ]
    done = run("check", "-c", str(file), PORT="secret-port")
    assert done.returncode == 1
    assert "not '${PORT}'" in done.stderr
    assert "secret-port" not in done.stderr


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("redis://:secret@h:notaport", "has no proper HOST:PORT; write redis://HOST:6379/0, say"),
        ("redis://:secret@h/abc", "ends in no database number; write redis://HOST:PORT/0, say"),
        ("redis+sentinel://:secret@h", "names no service; write redis+sentinel://HOST:PORT/SERVICE"),
        ("redis://:secret@h?x=1", "takes nothing after ? or #"),
        ("rediss://:secret@[h", "has no proper HOST:PORT"),
        ("redis+cluster://:secret@h/1", "has database 0 only"),
    ],
)
def test_check_refuses_the_storage_urls_that_serve_does(tmp_path: Path, url: str, told: str) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(f'{VALID}storage:\n  url: "{url}"\n')
    done = run("check", "-c", str(file))
    assert (done.returncode, done.stdout) == (1, "")
    line, count = done.stderr.splitlines()
    assert line.startswith(f"{file}:25: storage.url: ") and told in line and count == "1 fault"
    assert "secret" not in line
    with pytest.raises(StoreRefused):
        open_store(url, "w")


@pytest.mark.parametrize(
    "url",
    [
        *("memory://", "redis://h", "rediss://u:p%3F@h:1/2", "redis://[::1]:7"),
        *("redis+cluster://h,i:1", "redis+sentinel://h,i:9/main/4"),
    ],
)
def test_storage_urls_that_will_do(url: str) -> None:
    assert loads(f'{VALID}storage:\n  url: "{url}"\n', {}).storage.url.get_secret_value() == url


def test_settings_do_not_import_redis() -> None:
    script = (
        "import sys, gateway.settings; print([n for n in ('redis', 'hiredis', 'ssl') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, text=True)
    assert done.stdout.strip() == "[]"


def test_check_without_a_path_is_wrong_usage() -> None:
    assert run("check").returncode == 2
    done = run("check", "-c", "/nowhere")
    assert done.returncode == 1
    assert done.stderr == "/nowhere:1: cannot be read: No such file or directory\n1 fault\n"


def test_schema() -> None:
    done = run("schema")
    assert done.returncode == 0
    assert json.loads(done.stdout)["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_a_new_key_can_be_pasted() -> None:
    done = run("keys", "new", "--tenant", "acme", "--id", "1e3")
    assert done.returncode == 0, done.stderr
    secret = re.search(r"gw-[A-Za-z0-9_-]{43}", done.stdout)
    assert secret is not None
    assert done.stdout.count(secret[0]) == 1
    line = done.stdout.splitlines()[-1]
    text = VALID.replace(f'      - id: ci\n        hash: "{HASH}"', "    " + line)
    key = loads(text, {}).tenants["acme"].keys[0]
    assert key.id == "1e3"
    assert key.hash == "sha256:" + hashlib.sha256(secret[0].encode()).hexdigest()


def test_keys_differ_and_get_an_id() -> None:
    outputs = [run("keys", "new", "--tenant", "acme").stdout for _ in range(2)]
    assert outputs[0] != outputs[1]
    assert all(re.search(r'id: "key-[0-9a-f]{8}"', one) for one in outputs)


def test_a_new_key_with_a_name_that_the_configuration_would_refuse() -> None:
    assert run("keys", "new", "--tenant", "a b").returncode == 2
    assert run("keys", "new", "--tenant", "a", "--id", "").returncode == 2
    assert run("keys", "new").returncode == 2
