"""``llm-gateway redact``: what a policy finds, told to people and to programs, and what it would refuse.

Most cases call the command in this process: one of its own takes a second.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gateway.cli import app
from tests.e2e.redacting import ask, policies, whole
from tests.e2e.rig import ROOT
from tests.e2e.served import command, served
from tests.fakes.upstream import Upstream

MAIL = "jo.miller@example.com"
CARD = "4111 1111 1111 1111"
LETTER = f"Dear Jo,\nwrite to {MAIL}, or\n  pay with {CARD}. Again: {MAIL}\n"
CONFIG = """\
providers:
  simulated: {kind: simulated}
models:
  chat: {deployments: [{provider: simulated, model: simulated-1}]}
  strict: {deployments: [{provider: simulated, model: simulated-1}]}
  loose: {deployments: [{provider: simulated, model: simulated-1}]}
aliases: {hard: strict}
tenants:
  acme:
    models: ["*"]
    redaction:
      mode: mask
      restore: true
      uncovered: pass
      actions: {US_SSN: block, CREDIT_CARD: flag}
      models: {strict: {mode: block}, loose: {mode: "off"}}
    keys: []
  globex:
    models: ["*"]
    keys: []
  initech:
    models: ["*"]
    redaction: {mode: "off", models: {loose: {mode: flag}}}
    keys: []
"""
RECOGNISERS = """\
recognizers:
  - name: employees
    supported_entity: EMPLOYEE_ID
    patterns: [{name: number, regex: 'EMP-\\d{6}', score: 0.9}]
"""


@dataclass(frozen=True)
class Done:
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture(autouse=True)
def settled() -> None:
    """Nothing here outlives its test."""


@pytest.fixture
def letter(tmp_path: Path) -> Path:
    return written(tmp_path / "letter.txt", LETTER)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return written(tmp_path / "gateway.yaml", CONFIG)


def written(file: Path, text: str | bytes) -> Path:
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return file


def redact(*arguments: object, given: str | None = None) -> Done:
    """``given``: on standard input. What the command does not catch is raised."""
    runner = CliRunner(env={"COLUMNS": "80"})
    done = runner.invoke(app, ["redact", *map(str, arguments)], input=given, catch_exceptions=False)
    return Done(done.exit_code, done.stdout, done.stderr)


def started(*arguments: object, given: str | None = None) -> Done:
    """The same, as a process."""
    done = subprocess.run(
        [sys.executable, "-m", "gateway", "redact", *map(str, arguments)],
        input=None if given is None else given.encode(),
        stdin=subprocess.DEVNULL if given is None else None,
        capture_output=True,
        timeout=60,
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "COLUMNS": "80"},
        check=False,
    )
    return Done(done.returncode, done.stdout.decode(), done.stderr.decode())


def told(*arguments: object, given: str | None = None, code: int = 0) -> dict[str, Any]:
    done = redact(*arguments, "--json", given=given)
    assert done.returncode == code, done.stderr
    verdict = json.loads(done.stdout)
    assert isinstance(verdict, dict) and done.stdout.count("\n") == 1
    return verdict


def rows(printed: str) -> list[list[str]]:
    """Of the table: everything between its line and the next empty one."""
    lines = printed.splitlines()
    start = next(number for number, line in enumerate(lines) if set(line.strip()) == {"─"})
    table = []
    for line in lines[start + 1 :]:
        if not line.strip():
            break
        table.append(line.split())
    return table


def chat(**more: Any) -> str:
    """A body with a mail address in a part, in the arguments of a tool, and in a name of the metadata."""
    arguments = json.dumps({"to": f"anne <{MAIL}>"})
    call = {"id": "c", "type": "function", "function": {"name": "send", "arguments": arguments}}
    messages = [
        {"role": "user", "content": [{"type": "text", "text": f"I am {MAIL}"}]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
    ]
    return json.dumps({"model": "chat", "messages": messages, "metadata": {MAIL: "x"}, **more})


def test_a_process_does_the_same(letter: Path, config: Path, tmp_path: Path) -> None:
    """Of each exit code, and of each way to be given something."""
    body = written(tmp_path / "body.json", chat(model="hard"))
    wrong = written(tmp_path / "wrong.yaml", CONFIG.replace("mode: mask", "mode: musk"))
    for arguments, given, code in (
        ((letter,), None, 0),
        (("-", "--show-values"), f"ä😀 {LETTER}", 0),
        ((body, "--json", "--config", config, "--tenant", "acme"), None, 1),
        ((letter, "--engine", "presidio", "--language", "de"), None, 0),
        ((letter, "--config", wrong), None, 2),
        ((letter, "--entity", "EMAIL_ADRESS"), None, 2),
        ((letter, "--no-such-option"), None, 2),
        ((tmp_path / "none",), None, 2),
        (("--coverage",), None, 0),
    ):
        process, here = started(*arguments, given=given), redact(*arguments, given=given)
        assert process.returncode == code, process.stderr
        if "--json" in arguments:
            told_twice = [json.loads(one.stdout) | {"took_s": 0} for one in (process, here)]
            assert told_twice[0] == told_twice[1]
        else:
            assert process.stdout == here.stdout
        assert process.stderr.replace("python -m gateway", "llm-gateway") == here.stderr
        assert "Traceback" not in process.stderr


def test_a_text_for_people(letter: Path) -> None:
    done = redact(letter)
    assert (done.returncode, done.stderr) == (0, "")
    assert rows(done.stdout) == [
        ["2:10", "EMAIL_ADDRESS", "1.00", "mask", "jo…om"],
        ["3:12", "CREDIT_CARD", "1.00", "mask", "41…11"],
        ["3:40", "EMAIL_ADDRESS", "1.00", "mask", "jo…om"],
    ]
    assert "1 CREDIT_CARD, 2 EMAIL_ADDRESS\n" in done.stdout
    redacted = LETTER.replace(MAIL, "[EMAIL_ADDRESS_1]").replace(CARD, "[CREDIT_CARD_1]")
    assert done.stdout.endswith(f"\n\n{redacted}")
    assert MAIL not in done.stdout and CARD not in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_values_are_shown_when_asked_for(letter: Path) -> None:
    done = redact(letter, "--show-values")
    assert done.stdout.count(MAIL) == 2 and done.stdout.count(CARD) == 1


def test_standard_input_and_places(letter: Path) -> None:
    assert redact("-", given=LETTER).stdout == redact(letter).stdout
    verdict = told("-", given=f"\r\n\tä😀 {MAIL}\n{MAIL}")
    assert [find["where"] for find in verdict["finds"]] == ["2:5", "3:1"]


def test_for_programs(letter: Path) -> None:
    verdict = told(letter)
    assert verdict["redacted"] == redact(letter).stdout.partition("MILLER")[0].split("\n\n", 2)[-1]
    assert verdict["counts"] == {"CREDIT_CARD": 1, "EMAIL_ADDRESS": 2}
    assert (verdict["kind"], verdict["skipped"], verdict["refused"]) == ("text", {}, [])
    assert [find["value"] for find in verdict["finds"]] == ["jo…om", "41…11", "jo…om"]
    for find in told(letter, "--show-values")["finds"]:
        assert LETTER[find["start"] : find["end"]] == find["value"]


def test_nothing_found() -> None:
    done = redact("-", given="Nothing to see.")
    assert (done.returncode, done.stdout) == (0, "nothing was found\n\nNothing to see.\n")
    assert redact("-", given="").stdout == "nothing was found\n"


def test_a_body(tmp_path: Path) -> None:
    body = written(tmp_path / "body.json", chat())
    verdict = told(body)
    arguments = "messages[1].tool_calls[0].function.arguments"
    assert [find["where"] for find in verdict["finds"]] == [
        "messages[0].content[0].text",
        arguments,
        "metadata.jo…om (name)",
    ]
    redacted = json.loads(chat().replace(MAIL, "[EMAIL_ADDRESS_1]"))
    assert (verdict["kind"], verdict["redacted"]) == ("json", redacted)
    done = redact(body)
    assert MAIL not in done.stdout and done.returncode == 0
    assert json.loads(done.stdout[done.stdout.index("\n{") :]) == redacted
    assert "metadata.jo.miller@example.com (name)" in redact(body, "--mode", "flag", "--show-values").stdout


@pytest.mark.parametrize("field", ["messages", "prompt", "input", "system"])
def test_what_is_taken_for_a_body(field: str) -> None:
    verdict = told("-", given=json.dumps({field: MAIL}))
    assert [find["where"] for find in verdict["finds"]] == [field]
    assert verdict["redacted"] == {field: "[EMAIL_ADDRESS_1]"}


def test_what_it_is_read_as() -> None:
    assert told("-", "--as", "text", given=chat())["finds"][0]["where"].startswith("1:")
    given = json.dumps({"note": MAIL})
    assert told("-", given=given)["kind"] == "text"
    assert told("-", "--as", "json", given=given)["finds"][0]["where"] == "note"


def test_what_is_not_searched_is_named(tmp_path: Path, config: Path) -> None:
    parts = [{"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}]
    body = written(
        tmp_path / "body.json",
        chat(messages=[{"role": "user", "content": parts}], logprobs=True),
    )
    refused = redact(body)
    assert refused.returncode == 1
    assert "not searched: image_url\n" in refused.stdout and "uncovered: refuse" in refused.stdout
    assert told(body, code=1)["redacted"] is None
    passed = told(body, "--config", config, "--tenant", "acme")
    assert (passed["skipped"], passed["refused"]) == ({"logprobs": 1, "image_url": 1}, [])
    assert "not searched, and passed: image_url\n" in redact(body, "-c", config, "--tenant", "acme").stdout


def test_what_a_policy_blocks(letter: Path) -> None:
    done = redact(letter, "--mode", "block")
    assert done.returncode == 1
    assert "refused: the policy blocks CREDIT_CARD and EMAIL_ADDRESS\n" in done.stdout
    assert [row[3] for row in rows(done.stdout)] == ["block"] * 3
    assert "Dear Jo" not in done.stdout
    verdict = told(letter, "--mode", "block", code=1)
    assert verdict["redacted"] is None and len(verdict["finds"]) == 3
    assert redact("-", "--mode", "block", given="Dear Jo").returncode == 0


def test_modes(letter: Path) -> None:
    flagged = told(letter, "--mode", "flag")
    assert flagged["redacted"] == LETTER and len(flagged["finds"]) == 3
    hashed = redact(letter, "--mode", "hash", "--json")
    assert "key for trials" in hashed.stderr
    assert json.loads(hashed.stdout)["redacted"] == told(letter, "--mode", "hash")["redacted"] != LETTER
    assert MAIL not in hashed.stdout


def test_options_of_the_search(letter: Path, tmp_path: Path) -> None:
    assert told(letter, "--entity", "CREDIT_CARD")["counts"] == {"CREDIT_CARD": 1}
    both = told(letter, "--entity", "CREDIT_CARD", "--entity", "EMAIL_ADDRESS")["counts"]
    assert both == {"CREDIT_CARD": 1, "EMAIL_ADDRESS": 2}
    assert told(letter, "--allow", MAIL)["counts"] == {"CREDIT_CARD": 1}
    assert told(letter, "--deny", "dear jo", "--entity", "IBAN_CODE")["counts"] == {"DENY_LIST": 1}
    phone = ("--entity", "PHONE_NUMBER", "--threshold")
    assert told("-", *phone, "0.5", given="call +1 212 555 0142")["counts"] == {"PHONE_NUMBER": 1}
    assert told("-", *phone, "1", given="call +1 212 555 0142")["counts"] == {}
    own = written(tmp_path / "own.yaml", RECOGNISERS)
    found = told("-", "--recognisers", own, given=f"EMP-123456 is {MAIL}")["counts"]
    assert found == {"EMAIL_ADDRESS": 1, "EMPLOYEE_ID": 1}
    only = told("-", "--recognisers", own, "--entity", "EMPLOYEE_ID", given=f"EMP-123456 is {MAIL}")
    assert only["counts"] == {"EMPLOYEE_ID": 1}


def test_presidio(letter: Path) -> None:
    verdict = told(letter, "--engine", "presidio", "--entity", "EMAIL_ADDRESS", "--entity", "UK_NINO")
    assert verdict["counts"] == {"EMAIL_ADDRESS": 2}
    german = ("--engine", "presidio", "--language", "de", "--scan", "all")
    assert told(letter, *german)["counts"]["EMAIL_ADDRESS"] == 2


def test_what_a_client_types_as_a_placeholder() -> None:
    verdict = told("-", given=f"{MAIL} [EMAIL_ADDRESS_1]")
    assert [(find["entity"], find["action"]) for find in verdict["finds"]] == [
        ("EMAIL_ADDRESS", "mask"),
        ("LITERAL", "literal"),
    ]
    assert verdict["counts"] == {"EMAIL_ADDRESS": 1}
    assert verdict["redacted"] == "[EMAIL_ADDRESS_1] [LITERAL_1]"


def test_the_policy_of_a_tenant(letter: Path, config: Path, tmp_path: Path) -> None:
    acme = ("--config", config, "--tenant", "acme")
    verdict = told(letter, *acme)
    assert [find["action"] for find in verdict["finds"]] == ["restore", "flag", "restore"]
    assert verdict["redacted"] == LETTER.replace(MAIL, "[EMAIL_ADDRESS_1]")
    assert redact(letter, *acme).stdout.startswith("policy of the tenant acme\n")
    ssn = redact("-", *acme, given="my ssn is 536-22-1234")
    assert ssn.returncode == 1 and "refused: the policy blocks US_SSN\n" in ssn.stdout
    for model in ("strict", "hard"):
        done = redact(letter, *acme, "--model", model)
        assert done.returncode == 1
        assert done.stdout.startswith("policy of the tenant acme at the model strict\n")
    body = written(tmp_path / "body.json", chat(model="hard"))
    assert told(body, *acme, code=1)["policy"] == "the tenant acme at the model strict"
    assert told(body, *acme, "--model", "chat")["refused"] == []


def test_the_policy_of_a_group_with_fallbacks(letter: Path, tmp_path: Path) -> None:
    text = CONFIG.replace("  chat: {", "  chat: {fallbacks: [strict], ")
    done = redact(letter, "-c", written(tmp_path / "c.yaml", text), "--tenant", "acme", "--model", "chat")
    assert done.returncode == 1 and "refused: the policy blocks EMAIL_ADDRESS\n" in done.stdout
    assert done.stdout.startswith("policy of the tenant acme at the model chat and its fallbacks\n")


@pytest.mark.asyncio(loop_scope="module")
async def test_the_gateway_does_what_the_command_says(tmp_path: Path, upstream: Upstream) -> None:
    """Of each tenant the same body: what the provider sees, or that the request is refused."""
    modes = ("mask", "hash", "flag", "block")
    tenants = policies(**{mode: {"mode": mode} for mode in modes})
    body = written(tmp_path / "body.json", chat())
    async with served(tmp_path, upstream, **tenants) as gateway:
        for mode in modes:
            verdict = json.loads(
                redact(body, "--config", gateway.config, "--tenant", mode, "--json").stdout
            )
            if mode != "block":
                upstream.next(whole())
            answer = await ask(gateway, mode, **json.loads(chat()))
            assert (answer.status == 403) == bool(verdict["refused"]) == (mode == "block")
            if mode != "block":
                assert upstream.last.json()["messages"] == verdict["redacted"]["messages"]
                assert upstream.last.json()["metadata"] == verdict["redacted"]["metadata"]


def test_a_policy_for_answers_only(letter: Path, tmp_path: Path) -> None:
    text = CONFIG.replace("uncovered: pass", "direction: output").replace("mode: mask", "mode: hash")
    text = text.replace("restore: true", "threshold: 0.5") + "privacy: {hash_key: 0123456789abcdef}\n"
    done = redact(letter, "-c", written(tmp_path / "out.yaml", text), "--tenant", "acme", "--json")
    assert done.returncode == 0 and "searches answers only" in done.stderr
    verdict = json.loads(done.stdout)
    assert verdict["redacted"] == LETTER and verdict["counts"] == {"CREDIT_CARD": 1, "EMAIL_ADDRESS": 2}


@pytest.mark.parametrize(
    "more, said",
    [
        ((), "say whose policy is meant with --tenant: acme, globex, initech"),
        (("--tenant", "acmee"), "no tenant 'acmee'; did you mean acme?"),
        (("--tenant", "zzz"), "no tenant 'zzz'; there is acme, globex, initech"),
        (("--tenant", "acme", "--model", "strit"), "no model 'strit'; did you mean strict?"),
        (("--tenant", "globex"), "the tenant globex has no redaction"),
        (("--tenant", "globex"), "write tenants.globex.redaction, or try"),
        (
            ("--tenant", "acme", "--model", "loose"),
            "nothing is searched for the tenant acme at the model loose: "
            "tenants.acme.redaction.models.loose.mode is off; give it another one, or try",
        ),
        (
            ("--tenant", "initech"),
            "nothing is searched for the tenant initech: tenants.initech.redaction.mode is off; give",
        ),
        (
            ("--tenant", "initech", "--model", "hard"),
            "for the tenant initech at the model strict: tenants.initech.redaction.mode is off; give",
        ),
        (("--tenant", "acme", "--mode", "block"), "--mode"),
        (("--tenant", "acme", "--deny", "word"), "--deny"),
    ],
)
def test_configurations_that_name_no_policy(
    letter: Path, config: Path, more: tuple[str, ...], said: str
) -> None:
    done = redact(letter, "--config", config, *more)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr and "Traceback" not in done.stderr


def test_a_configuration_with_faults(letter: Path, tmp_path: Path) -> None:
    wrong = CONFIG.replace("mode: mask", "mode: musk").replace("uncovered: pass", "uncoverd: pass")
    done = redact(letter, "-c", written(tmp_path / "wrong.yaml", wrong), "--tenant", "acme")
    assert (done.returncode, done.stdout) == (2, "")
    assert "redaction.mode" in done.stderr and "did you mean uncovered?" in done.stderr


@pytest.mark.parametrize(
    "content, said",
    [
        (b"a\0b", "is not text: it holds a NUL at offset 1"),
        (b"one\ntwo \xff", "is not UTF-8 text: byte 0xff at offset 8 (line 2)"),
        (b"\xff\xfea\0", "is UTF-16"),
        (b"\x7fELF\x02\x01\x01\0\0\0", "is not text"),
    ],
    ids=["nul", "latin", "utf-16", "binary"],
)
def test_files_that_are_no_text(tmp_path: Path, content: bytes, said: str) -> None:
    done = redact(written(tmp_path / "file", content))
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr and done.stderr.count("\n") == 1


def test_a_byte_order_mark(tmp_path: Path) -> None:
    file = written(tmp_path / "file", b"\xef\xbb\xbf" + LETTER.encode())
    assert told(file)["redacted"] == told("-", given=LETTER)["redacted"]


@pytest.mark.parametrize(
    "given, more, said",
    [
        ('{"messages": [', ("--as", "json"), "is not JSON"),
        ("[1]", ("--as", "json"), "no object"),
        ('{"input": ' + "[" * 80 + "]" * 80 + "}", (), "nested deeper than 64"),
        ("text", ("--entity", "EMAIL_ADRESS"), "did you mean EMAIL_ADDRESS?"),
        ("text", ("--entity", "UK_NINO"), "add --engine presidio"),
        ("text", ("--entity", "PERSON", "--engine", "presidio"), "--model-path"),
        ("text", ("--language", "English"), "such as en or de"),
        ("text", ("--threshold", "2"), "--threshold"),
        ("text", ("--mode", "musk"), "--mode"),
        ("text", ("--as", "xml"), "--as"),
        ("text", ("--recognisers", "/none"), "/none cannot be read"),
        ("text", ("--tenant", "acme"), "--config"),
        ("text", ("--model", "chat"), "--config"),
    ],
)
def test_wrong_usage(given: str, more: tuple[str, ...], said: str) -> None:
    done = redact("-", *more, given=given)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr and "Traceback" not in done.stderr


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    for file, said in ((tmp_path / "none", "No such file"), (tmp_path, "is a folder")):
        done = redact(file)
        assert (done.returncode, done.stdout) == (2, "")
        assert said in done.stderr
    assert redact().returncode == 2 and "name a file" in redact().stderr


def test_recognisers_with_a_fault(letter: Path, tmp_path: Path) -> None:
    own = written(tmp_path / "own.yaml", RECOGNISERS.replace("EMP-", "(?=EMP)"))
    done = redact(letter, "--recognisers", own)
    assert (done.returncode, done.stdout) == (2, "")
    assert "own.yaml" in done.stderr and "Traceback" not in done.stderr


def test_broken_json_is_text_and_said_so() -> None:
    done = redact("-", given='{"messages": [{"content": "' + MAIL)
    assert done.returncode == 0 and "[EMAIL_ADDRESS_1]" in done.stdout
    assert "note: standard input is read as text" in done.stderr


def test_a_large_file_and_a_reader_that_leaves(tmp_path: Path) -> None:
    line = "Some words that go on for a while and hold nothing at all that anybody looks for.\n"
    file = written(tmp_path / "large.txt", line * 60_000 + MAIL + "\n" + line * 60_000)
    verdict = told(file)
    assert [find["where"] for find in verdict["finds"]] == ["60001:1"]
    assert len(verdict["redacted"]) > 9_000_000
    piped = subprocess.run(
        ["sh", "-c", f"{sys.executable} -m gateway redact {file} | head -n 2"],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
        env={"PATH": os.environ["PATH"]},
        check=False,
    )
    assert piped.stderr == "" and piped.stdout.count("\n") == 2


def test_more_finds_than_anybody_reads() -> None:
    given = "".join(f"user{number}@example.com\n" for number in range(1200))
    done = redact("-", given=given)
    assert len(rows(done.stdout)) == 1000
    assert "the first 1,000; --json tells all 1,200\n1200 EMAIL_ADDRESS\n" in done.stdout
    assert done.stdout.endswith("[EMAIL_ADDRESS_1200]\n")


def test_control_characters_do_not_reach_the_table() -> None:
    done = redact("-", "--deny", "evil", "--show-values", given="\x1b[31mevil\x1b[0m")
    assert "\x1b" not in done.stdout.split("\n\n")[0]


def test_help_teaches() -> None:
    done = redact("--help")
    assert (done.returncode, done.stderr) == (0, "")
    taught = " ".join(done.stdout.split())
    for word in (
        *("--config", "--tenant", "--model", "--engine", "--entity", "--mode", "--language", "--deny"),
        *("--threshold", "--allow", "--recognisers", "--as", "--show-values", "--json", "--coverage"),
        *("llm-gateway redact letter.txt", "standard input", "Exit code 0", "Nothing leaves"),
    ):
        assert word in taught, word
    assert "redact" in command("--help").stdout


def test_coverage() -> None:
    done = redact("--coverage")
    assert (done.returncode, done.stderr) == (0, "")
    for route in ("/v1/chat/completions", "/v1/completions", "/v1/embeddings"):
        assert f"{route}: request\n" in done.stdout and f"{route}: answer\n" in done.stdout
    assert "not searched   image_url, input_audio" in done.stdout and "uncovered" in done.stdout
    table = json.loads(redact("--coverage", "--json").stdout)
    statuses = {(row["route"], row["direction"], row["part"]): row["status"] for row in table}
    assert len(statuses) == len(table)
    assert statuses["/v1/embeddings", "request", "input (token ids)"] == "not searched"
    assert statuses["/v1/chat/completions", "request", "messages[].content[].text"] == "searched"
    assert statuses["/v1/completions", "request", "model"] == "kept"
