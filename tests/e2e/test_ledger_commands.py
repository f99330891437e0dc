"""`ledger verify` and `project`, over a ledger that a gateway wrote."""

from __future__ import annotations

import asyncio
import csv
import io
import subprocess
from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from pathlib import Path

import pytest
import pytest_asyncio
import yaml

from tests.e2e.served import Served, command, served
from tests.fakes.answers import chat_body, json_answer
from tests.fakes.upstream import Upstream, send

pytestmark = pytest.mark.asyncio(loop_scope="module")

USED = {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}


@pytest_asyncio.fixture(loop_scope="module")
async def upstream() -> AsyncIterator[Upstream]:
    async with Upstream() as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def gateway(tmp_path: Path, upstream: Upstream) -> AsyncIterator[Served]:
    """Has answered three requests of one feature and one of another, and still runs."""
    async with served(tmp_path, upstream) as running:
        for feature in ("search", "search", "search", "chat"):
            upstream.next(send(json_answer(chat_body("fine", usage=USED))))
            answer = await running.chat(headers={"x-gateway-feature": feature})
            await running.row(answer.header("x-request-id") or "")
        yield running


@pytest.fixture(autouse=True)
def settled() -> None:
    """Each test here looks after a process of its own."""


async def verified(gateway: Served) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(command, "ledger", "verify", "--config", str(gateway.config))


async def projected(gateway: Served, *options: str) -> subprocess.CompletedProcess[str]:
    given = ("project", "--config", str(gateway.config), *options)
    return await asyncio.to_thread(command, *given)


def day_file(gateway: Served) -> Path:
    return next(gateway.data_dir.glob("ledger/*/????-??-??.jsonl"))


async def test_a_whole_ledger(gateway: Served) -> None:
    done = await verified(gateway)
    writer = day_file(gateway).parent.name
    assert (done.returncode, done.stderr) == (0, "") and f"ok: {writer}: 8 rows, " in done.stdout
    assert await gateway.stop() == 0
    done = await verified(gateway)
    assert (done.returncode, done.stderr) == (0, "") and "8 rows" in done.stdout
    assert "end known" in done.stdout


async def test_a_row_torn_by_a_crash_is_no_fault(gateway: Served) -> None:
    assert await gateway.stop() == 0
    with day_file(gateway).open("ab") as file:
        file.write(b'{"seq":9,"pre')
    done = await verified(gateway)
    assert done.returncode == 0 and "8 rows" in done.stdout
    assert done.stderr.startswith("note: ") and "torn by a crash" in done.stderr


def changed(lines: list[bytes]) -> list[bytes]:
    return [*lines[:2], lines[2].replace(b'"acme"', b'"acne"'), *lines[3:]]


def last_changed(lines: list[bytes]) -> list[bytes]:
    return [*lines[:-1], lines[-1].replace(b'"acme"', b'"acne"')]


@pytest.mark.parametrize(
    "damage, said",
    [
        (changed, ":3: changed: "),
        (last_changed, ":8: changed: "),
        (lambda lines: lines[:2] + lines[3:], "missing: rows 3 to 3 are missing"),
        (lambda lines: [*lines[:2], lines[3], lines[2], *lines[4:]], ": swapped: "),
        (lambda lines: lines[:-1], "cut_off: the head is row 8, the last row is 7"),
        (lambda lines: [*lines[:-1], lines[-1][:50]], "cut_off: the head is row 8, the last row is 7"),
        (lambda lines: [], "cut_off: "),
        (lambda lines: [*lines[:3], b"rubbish\n", *lines[4:]], ":4: unreadable: "),
    ],
    ids=["changed", "last-changed", "missing", "swapped", "cut-off", "half", "removed", "rubbish"],
)
async def test_what_was_done_to_a_ledger_shows(
    gateway: Served, damage: Callable[[list[bytes]], list[bytes]], said: str
) -> None:
    assert await gateway.stop() == 0
    file = day_file(gateway)
    if lines := damage(file.read_bytes().splitlines(keepends=True)):
        file.write_bytes(b"".join(lines))
    else:
        file.unlink()
    done = await verified(gateway)
    assert done.returncode == 1 and said in done.stderr
    assert str(file.parent) in done.stderr and "Traceback" not in done.stderr and "ok:" not in done.stdout


async def test_no_ledger_yet(tmp_path: Path, gateway: Served) -> None:
    gateway.configure({"storage": {"data_dir": str(tmp_path / "none")}})
    done = await verified(gateway)
    assert done.returncode == 0 and "nothing has been written yet" in done.stdout
    done = await projected(gateway, "--volume", "1/day")
    assert done.returncode == 1 and "holds no answered requests yet" in done.stderr


async def test_a_projection_multiplies_what_was_seen(gateway: Served) -> None:
    done = await projected(gateway, "--volume", "100000/day", "--csv", "--models", "chat,gpt-4o")
    assert done.returncode == 0, done.stderr
    rows = {(row["model"], row["feature"]): row for row in csv.DictReader(io.StringIO(done.stdout))}
    assert rows.keys() == {(m, f) for m in ("chat", "gpt-4o") for f in ("search", "chat")}
    search = rows["chat", "search"]
    assert (search["requests_per_month"], search["input_tokens_p50"]) == ("2280000", "1000")
    assert Decimal(search["month_usd_p50"]) == 2_280_000 * Decimal("0.0035")
    assert Decimal(rows["gpt-4o", "chat"]["month_usd_p95"]) == 760_000 * Decimal("0.0035")


async def test_a_projection_for_people(gateway: Served) -> None:
    done = await projected(gateway, "--volume", "2/s", "--feature", "search")
    assert done.returncode == 0, done.stderr
    (line,) = [line.split() for line in done.stdout.splitlines() if "search" in line]
    assert line[:3] == ["chat", "search", "5,253,120"] and line[-1] == "18,385.92"


async def test_models_without_a_price_are_marked(gateway: Served) -> None:
    def group(*prices: str | None) -> dict[str, object]:
        given = [
            {"price": {"input_per_mtok_usd": one, "output_per_mtok_usd": one}} if one is not None else {}
            for one in prices
        ]
        return {"deployments": [{"provider": "fake", "model": "no-such-model", **one} for one in given]}

    gateway.configure(
        {"models": {"free": group("0"), "half": group("1", "0"), "odd": group(None), "dear": group("900")}}
    )
    done = await projected(gateway, "--volume", "1000/month", "--feature", "search")
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line.split() for line in done.stdout.splitlines() if "search" in line]
    shown = {" ".join(line[: line.index("search")]): line[-2:] for line in lines}
    assert list(shown) == ["half (partly price 0)", "chat", "dear", "free (price 0)", "odd (no price)"]
    assert shown["free (price 0)"] == ["0.00", "0.00"] and shown["odd (no price)"] == ["–", "–"]
    done = await projected(gateway, "--volume", "1000/month")
    assert [line.split()[:3] for line in done.stdout.splitlines() if " all " in line][-1] == [
        "odd",
        "(no",
        "price)",
    ]
    done = await projected(gateway, "--volume", "1000/month", "--csv")
    assert done.stderr == "note: odd has no price, and is left out\n"
    assert {row["model"] for row in csv.DictReader(io.StringIO(done.stdout))} == {
        *("half", "chat", "dear", "free")
    }


@pytest.mark.parametrize(
    "options, code, said",
    [
        (("--volume", "many"), 2, "100000/day"),
        (("--volume", "0/day"), 2, "100000/day"),
        (("--volume", "1/day", "--models", "no-such-model"), 1, "no-such-model: neither a model of the"),
        (("--volume", "1/day", "--feature", "nothing"), 1, "of the feature 'nothing' yet"),
        ((), 2, "--volume"),
    ],
)
async def test_what_cannot_be_projected(
    gateway: Served, options: tuple[str, ...], code: int, said: str
) -> None:
    done = await projected(gateway, *options)
    assert done.returncode == code and said in done.stderr and "Traceback" not in done.stderr


async def test_a_faulty_configuration_is_told(tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text(yaml.safe_dump({"sever": {}}))
    for words in (("ledger", "verify"), ("project", "--volume", "1/day")):
        done = command(*words, "--config", str(file))
        assert done.returncode == 1 and "sever" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "words, taught",
    [
        ((), ("spend", "project", "ledger")),
        (("spend",), ("--tenant", "--group-by", "--from", "--csv", "--url", "GATEWAY_ADMIN_TOKEN")),
        (("ledger",), ("verify",)),
        (("ledger", "verify"), ("--config", "while a gateway runs")),
        (("project",), ("--volume", "--feature", "--models", "--csv", "30.4 days")),
    ],
)
async def test_help_teaches(words: tuple[str, ...], taught: tuple[str, ...]) -> None:
    done = command(*words, "--help")
    assert done.returncode == 0 and done.stderr == ""
    for text in taught:
        assert text in " ".join(done.stdout.split())


async def test_verified_while_rows_are_written(gateway: Served, upstream: Upstream) -> None:
    """Whatever stands half-written at that moment is no fault."""
    busy = True

    async def ask() -> None:
        while busy:
            upstream.next(send(json_answer(chat_body("fine", usage=USED))))
            await gateway.chat()

    async with asyncio.TaskGroup() as group:
        group.create_task(ask())
        for _ in range(3):
            done = await verified(gateway)
            assert (done.returncode, done.stderr) == (0, "")
        busy = False
    assert await gateway.stop() == 0
    gateway.assert_proved()
