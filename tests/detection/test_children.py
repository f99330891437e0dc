"""Children that search: killed, stopped, asked too much, left alone."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Generator
from pathlib import Path
from typing import Any

import pytest

from gateway.detection import slot as slot_module
from gateway.detection.child import NICER
from gateway.detection.messages import pack_spec
from gateway.detection.process import MOST_NOISE_BYTES
from gateway.frames import frame, receive_frame
from gateway.privacy.detectors import build_detector
from gateway.privacy.interface import DetectorFailed, Match
from gateway.privacy.policy import DetectorSpec
from tests.detection.rig import (
    FAST,
    LINE,
    MAIL_ONLY,
    PRESIDIO,
    SLOW,
    Rigged,
    detecting,
    of_size,
    state_of,
    stop,
    until,
)

HUNDRED_KB = of_size(LINE, 100_000)
TEN_MB, THREE_MB = of_size(SLOW, 10_000_000), of_size(SLOW, 3_000_000)


def expected(spec: DetectorSpec, *texts: str) -> list[list[Match]]:
    detector = build_detector(spec)
    return [detector.find(text) for text in texts]


async def answered(rigged: Rigged) -> None:
    found = await rigged.detection.find(FAST, [HUNDRED_KB], 20)
    assert len(found[0]) == HUNDRED_KB.count("@example.com")


async def test_a_child_killed_at_work_fails_one_question() -> None:
    async with detecting() as rigged:
        pid = await rigged.pid()
        asking = asyncio.gather(rigged.detection.find(FAST, [TEN_MB], 20), return_exceptions=True)
        await until(lambda: state_of(pid) == "R")
        os.kill(pid, signal.SIGKILL)
        (failed,) = await asking
        assert isinstance(failed, DetectorFailed)
        assert str(failed) == "the process that looks for personal data ended"
        await answered(rigged)
        assert rigged.events("detection_ended")[0]["exit"] == -signal.SIGKILL
        assert await rigged.pid(2) != pid


async def test_a_child_killed_while_idle_is_replaced_unasked() -> None:
    async with detecting() as rigged:
        os.kill(await rigged.pid(), signal.SIGKILL)
        await rigged.pid(2)
        await answered(rigged)


async def test_a_child_that_hangs_is_killed_and_replaced() -> None:
    async with detecting() as rigged:
        pid = await rigged.pid()
        await stop(pid)
        began_s = time.monotonic()
        with pytest.raises(DetectorFailed, match=r"^looking for personal data took more than 0\.3 s$"):
            await rigged.detection.find(FAST, [HUNDRED_KB], 0.3)
        assert time.monotonic() - began_s < 3
        await answered(rigged)
        assert state_of(pid) == ""
        assert rigged.events("detection_ended")[0]["reason"] == "did not answer in time"


async def test_too_late_does_not_cost_a_child_that_works() -> None:
    async with detecting() as rigged:
        await rigged.pid()
        for _ in range(3):
            with pytest.raises(DetectorFailed, match="took more than"):
                await rigged.detection.find(FAST, [TEN_MB], 0.2)
        await answered(rigged)
        assert rigged.events("detection_ended") == []


async def test_a_storm_of_kills(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slot_module, "MOST_PAUSE_S", 0.2)
    async with detecting() as rigged:
        asked, right = 0, expected(FAST, HUNDRED_KB)
        for round_ in range(1, 9):
            pid = await rigged.pid(round_)
            asking = [rigged.detection.find(FAST, [HUNDRED_KB], 5) for _ in range(10)]
            gathered = asyncio.gather(*asking, return_exceptions=True)
            await asyncio.sleep(0.002 * round_)
            os.kill(pid, signal.SIGSTOP if round_ % 3 == 0 else signal.SIGKILL)
            if round_ % 3 == 0:
                os.kill(pid, signal.SIGKILL)
            results = await gathered
            assert all(result == right or isinstance(result, DetectorFailed) for result in results)
            failed = [result for result in results if result != right]
            assert len(failed) <= 1
            asked += 1
        await answered(rigged)
        assert asked == 8


async def test_a_child_that_dies_again_and_again_is_started_less_often(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    async with detecting() as rigged:
        await asyncio.sleep(1.2)
        assert 2 <= len(rigged.events("detection_ended")) <= 5
        with pytest.raises(DetectorFailed, match="took more than"):
            await rigged.detection.find(FAST, [HUNDRED_KB], 0.1)
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    async with detecting() as rigged:
        await until(lambda: bool(rigged.events("detection_not_started")))


async def test_many_questions_of_different_kinds() -> None:
    specs = [
        DetectorSpec("fast", entities, deny=deny)
        for entities in (("EMAIL_ADDRESS",), ("CREDIT_CARD",), ("EMAIL_ADDRESS", "IP_ADDRESS"))
        for deny in ((), ("today",))
    ]
    texts = [
        of_size(
            f"{number} jo{number}@example.com 4111 1111 1111 1111 192.0.2.{number} today. ", 9000 * number
        )
        for number in range(1, 6)
    ]
    async with detecting(specs[:3], processes=2) as rigged:
        asked = [(spec, text) for spec in specs for text in texts] * 2
        assert len(asked) > 50
        results = await asyncio.gather(
            *(rigged.detection.find(spec, [text, "x"], 30) for spec, text in asked)
        )
        for (spec, text), result in zip(asked, results, strict=True):
            assert result == expected(spec, text, "x")


async def test_presidio_answers_from_a_child() -> None:
    text = of_size("Jo's SSN is 536-22-1234, mail jo.doe@example.com, and all is quiet here.\n", 40_000)
    async with detecting([PRESIDIO]) as rigged:
        assert await rigged.detection.find(PRESIDIO, [text, LINE], 30) == expected(PRESIDIO, text, LINE)


async def test_small_questions_are_answered_while_a_large_one_is_searched() -> None:
    async with detecting() as rigged:
        await rigged.pid()
        large = asyncio.gather(rigged.detection.find(FAST, [TEN_MB], 60))
        await asyncio.sleep(0.1)
        took_s: list[float] = []
        while len(took_s) < 20:
            began_s = time.monotonic()
            assert await rigged.detection.find(FAST, [of_size(LINE, 16_000)], 5) != []
            took_s.append(time.monotonic() - began_s)
            assert not large.done()
        assert sorted(took_s)[10] < 0.25
        assert list(await large) == [[]]


async def test_the_loop_is_not_held() -> None:
    """By a text in one piece, by many texts, and by one in which nothing is settled."""
    async with detecting() as rigged:
        await rigged.pid()
        unbroken = "9" * 40 + "@" + "ab" * 5_000_000
        for texts in ([TEN_MB], [SLOW * 30] * 3000, [unbroken]):
            gaps: list[float] = []
            asking = asyncio.gather(rigged.detection.find(FAST, texts, 60), return_exceptions=True)
            last_s = time.monotonic()
            while not asking.done():
                await asyncio.sleep(0.001)
                now_s = time.monotonic()
                gaps.append(now_s - last_s)
                last_s = now_s
            assert len(gaps) > 10
            assert max(gaps) < 0.25


class Step:
    """Runs ``work`` and cancels it at its ``at``-th suspension. ``count``: how many it had."""

    def __init__(self, work: Coroutine[Any, Any, Any], at: int, cancel: Callable[[], object]) -> None:
        self._work, self._at, self._cancel = work, at, cancel
        self.count = 0

    def __await__(self) -> Generator[Any, Any, Any]:
        inner = self._work.__await__()
        sent: Any = None
        while True:
            try:
                waits_for = inner.send(sent)
            except StopIteration as done:
                return done.value
            self.count += 1
            if self.count == self._at:
                self._cancel()
            try:
                sent = yield waits_for
            except BaseException as error:
                inner.throw(error)
                raise


async def test_who_gives_up_leaves_nothing_behind() -> None:
    """At any time: before it is begun, at work, and while the answer comes."""
    async with detecting() as rigged:
        await rigged.pid()
        right = expected(FAST, HUNDRED_KB, LINE)
        for wait_ms in range(0, 60, 2):
            async with asyncio.TaskGroup() as group:
                gone = [group.create_task(rigged.detection.find(FAST, [TEN_MB], 5)) for _ in range(2)]
                stays = group.create_task(rigged.detection.find(FAST, [HUNDRED_KB, LINE], 20))
                await asyncio.sleep(wait_ms / 1000)
                for task in gone:
                    task.cancel()
            assert all(task.cancelled() for task in gone)
            assert stays.result() == right
        assert rigged.events("detection_ended") == []
        assert rigged.detection._waiting._chars == 0


async def test_cancelled_at_every_await() -> None:
    async with detecting() as rigged:
        await rigged.pid()
        at = steps = 1
        while steps >= at:
            text = of_size(f"jo{at}@example.com and more. ", 100_000)

            async def ask(text: str = text, at: int = at) -> int:
                task = asyncio.current_task()
                assert task is not None
                step = Step(rigged.detection.find(FAST, [text], 5), at, task.cancel)
                try:
                    assert await step == expected(FAST, text)
                except asyncio.CancelledError:
                    task.uncancel()
                return step.count

            steps = await ask()
            await answered(rigged)
            at += 1
        assert at > 1
        assert rigged.detection._waiting._chars == 0


async def test_a_reload_puts_new_children_in_the_place_of_the_old() -> None:
    async with detecting() as rigged:
        first = await rigged.pid()
        asking = asyncio.gather(rigged.detection.find(FAST, [THREE_MB], 60))
        await asyncio.sleep(0.05)
        rigged.detection.adopt([MAIL_ONLY])
        assert await rigged.pid(2) != first
        assert await rigged.detection.find(MAIL_ONLY, [HUNDRED_KB], 20) == expected(MAIL_ONLY, HUNDRED_KB)
        assert list(await asking) == [[]]  # what was asked before is searched to its end
        await until(lambda: state_of(first) == "")
        rigged.detection.adopt([MAIL_ONLY])
        assert len(rigged.events("detection_ready")) == 2
        asking = asyncio.gather(rigged.detection.find(MAIL_ONLY, [THREE_MB], 60))
        await asyncio.sleep(0.05)
        rigged.detection.adopt([])
        assert list(await asking) == [[]]
        await until(lambda: len(rigged.events("detection_ended")) == 2)
        assert all("reason" not in event for event in rigged.events("detection_ended"))
        assert not rigged.detection._slots


async def test_a_reload_with_another_engine_fails_nobody() -> None:
    """Old children serve what they know until the new ones, which take seconds, are there."""
    text = of_size("Jo's SSN is 536-22-1234, mail jo.doe@example.com, and all is quiet here.\n", 20_000)
    async with detecting() as rigged:
        first = await rigged.pid()
        rigged.detection.adopt([FAST, PRESIDIO])
        began_s, asked = time.monotonic(), 0
        while len(rigged.events("detection_ready")) < 2:
            assert len((await rigged.detection.find(FAST, [HUNDRED_KB], 2))[0]) > 1000
            if not asked:
                assert await rigged.detection.find(PRESIDIO, [text], 20) == expected(PRESIDIO, text)
            asked += 1
            assert time.monotonic() - began_s < 60
        assert asked > 3
        await until(lambda: state_of(first) == "")
        assert await rigged.detection.find(PRESIDIO, [text], 20) == expected(PRESIDIO, text)
        await answered(rigged)


async def test_who_asks_for_what_was_before_a_reload_gets_it() -> None:
    async with detecting([PRESIDIO]) as rigged:
        rigged.detection.adopt([FAST])
        await rigged.pid()
        text = of_size("Jo's SSN is 536-22-1234, mail jo.doe@example.com.\n", 20_000)
        assert await rigged.detection.find(PRESIDIO, [text], 60) == expected(PRESIDIO, text)


async def test_a_start_waits_for_a_child() -> None:
    rigged = Rigged(1)
    rigged.detection.adopt([FAST])
    await rigged.detection.start(30)
    assert len(rigged.events("detection_ready")) == 1
    await rigged.detection.aclose()
    await rigged.tasks.close()


async def test_a_start_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    rigged = Rigged(1)
    rigged.detection.adopt([FAST])
    await rigged.detection.start(0.2)
    assert rigged.events("detection_not_ready") == [{"level": "warning", "waited_s": 0.2}]
    await rigged.detection.aclose()
    await rigged.tasks.close()


async def test_text_without_a_break_keeps_nobody_waiting() -> None:
    """It costs its own time, and no child."""
    async with detecting() as rigged:
        await rigged.pid()
        unbroken = "@" * 9_000_000
        asking = [rigged.detection.find(FAST, [unbroken], 1) for _ in range(3)]
        attack = asyncio.gather(*asking, return_exceptions=True)
        await asyncio.sleep(0.1)
        while not attack.done():
            await answered(rigged)
        assert all(isinstance(result, DetectorFailed) for result in await attack)
        assert rigged.events("detection_ended") == []


async def test_a_child_that_was_ready_is_soon_replaced() -> None:
    """However often one is killed that does not answer, others need not wait longer for the next one."""
    async with detecting() as rigged:
        for number in range(1, 7):
            pid = await rigged.pid(number)
            await stop(pid)
            with pytest.raises(DetectorFailed):
                await rigged.detection.find(FAST, [HUNDRED_KB], 0.05)
        (slot,) = rigged.detection._slots
        assert slot._pause_s <= slot_module.PAUSE_S
        await answered(rigged)


async def test_without_a_policy_there_is_no_child() -> None:
    async with detecting([]) as rigged:
        await asyncio.sleep(0.1)
        assert rigged.told == []
        rigged.detection.adopt([FAST])
        await answered(rigged)


async def test_a_child_gets_nothing_that_it_does_not_need(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-gateway")
    monkeypatch.setenv("PYTHONSTARTUP", "/nowhere")
    async with detecting() as rigged:
        pid = await rigged.pid()
        entries = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        names = {entry.partition(b"=")[0] for entry in entries if entry}
        assert names <= {b"PYTHONPATH", b"LC_ALL", b"OMP_NUM_THREADS", b"LD_LIBRARY_PATH"}
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        assert int(fields[16]) == min(os.nice(0) + NICER, 19)
        open_files = {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")}
        assert all(name.startswith(("socket:", "pipe:", "/dev/null")) for name in open_files)


async def test_a_terminal_does_not_end_a_child() -> None:
    async with detecting() as rigged:
        pid = await rigged.pid()
        for ending in (signal.SIGINT, signal.SIGTERM):
            os.kill(pid, ending)
        assert os.getpgid(pid) == pid
        await answered(rigged)
        assert rigged.events("detection_ended") == []


async def test_lone_surrogates_are_searched_as_if_they_were_something() -> None:
    text = of_size("\ud800 jo@example.com ", 100_000)
    async with detecting() as rigged:
        assert await rigged.detection.find(FAST, [text], 20) == expected(FAST, text)
        assert await rigged.detection.find(FAST, [text[:20_000], "\udfff"], 20) == expected(
            FAST, text[:20_000], "\udfff"
        )


async def test_more_finds_than_anybody_needs() -> None:
    async with detecting() as rigged:
        with pytest.raises(DetectorFailed, match=r"^more than 20000 finds$"):
            await rigged.detection.find(FAST, [of_size("jo@example.com ", 400_000)], 20)
        await answered(rigged)


def own_children() -> set[int]:
    tasks = Path("/proc/self/task").iterdir()
    pids = {int(pid) for task in tasks for pid in (task / "children").read_text().split()}
    return {pid for pid in pids if state_of(pid)}


async def test_ended_at_any_time_nothing_is_left() -> None:
    before = own_children()
    for wait_ms in [*range(0, 20, 2), *range(20, 300, 20)]:
        async with detecting(processes=2) as rigged:
            asking = asyncio.gather(rigged.detection.find(FAST, [TEN_MB], 60), return_exceptions=True)
            await asyncio.sleep(wait_ms / 1000)
            began_s = time.monotonic()
        assert time.monotonic() - began_s < 2
        assert isinstance((await asking)[0], DetectorFailed)
        await until(lambda: own_children() == before)


@pytest.mark.parametrize("stopped", [False, True])
async def test_the_end_comes_soon(stopped: bool) -> None:
    async with detecting(processes=2) as rigged:
        pids = [await rigged.pid(1), await rigged.pid(2)]
        asking = asyncio.gather(
            *(rigged.detection.find(FAST, [TEN_MB], 60) for _ in range(3)), return_exceptions=True
        )
        await asyncio.sleep(0.05)
        if stopped:
            await stop(pids[0])
        began_s = time.monotonic()
        await rigged.detection.aclose()
        assert time.monotonic() - began_s < 2
        assert [str(failed) for failed in await asking] == ["the search for personal data was ended"] * 3
        assert [state_of(pid) for pid in pids] == ["", ""]


PARENT = """
import asyncio, sys
from tests.detection.rig import FAST, SLOW, detecting, of_size

async def main():
    async with detecting(processes=2) as rigged:
        for number in (1, 2):
            print(await rigged.pid(number), flush=True)
        if sys.argv[1] == "busy":
            await rigged.detection.find(FAST, [of_size(SLOW, 10_000_000)], 60)
        await asyncio.sleep(60)

asyncio.run(main())
"""


@pytest.mark.parametrize("state", ["idle", "busy", "stopped"])
async def test_no_child_outlives_its_parent(state: str) -> None:
    root = Path(__file__).parents[2]
    parent = subprocess.Popen([sys.executable, "-c", PARENT, state], stdout=subprocess.PIPE, cwd=root)
    try:
        assert parent.stdout is not None
        pids = [int(await asyncio.to_thread(parent.stdout.readline)) for _ in range(2)]
        if state == "stopped":
            await stop(pids[0])
    finally:
        parent.kill()
        parent.wait()
        assert parent.stdout is not None
        parent.stdout.close()
    await until(lambda: all(state_of(pid) in ("", "Z") for pid in pids), 10)


ANSWERING = """#!{python}
import json, os, sys, time

def read():
    length = os.read(0, 4)
    if not length:
        sys.exit()
    text, length = b"", int.from_bytes(length, "big")
    while len(text) < length:
        text += os.read(0, length - len(text))
    return json.loads(text)

def say(answer):
    text = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    os.write(1, len(text).to_bytes(4, "big") + text)

while True:
    message = read()
    number, texts = message["number"], message.get("texts", [])
    if message["kind"] == "learn":
        say({{"number": number}})
    else:
        right = {{"number": number, "found": [[] for _ in texts], "end": len(texts[0])}}
        {answer}
"""
WRONG = {
    "no JSON": 'say(b"nothing")',
    "no message": "say([1, 2])",
    "another number": "say({**right, 'number': number - 1})",
    "too long": 'os.write(1, b"\\xff" * 4 + b"x" * 1000)',
    "a match that cannot be": "say({**right, 'found': [[0, 10**9, 'EMAIL_ADDRESS', 1]] * len(texts)})",
    "nothing found where nothing was asked": "say({**right, 'found': []})",
    "no place": "say({**right, 'end': 10**9})",
}


def pretend(monkeypatch: pytest.MonkeyPatch, folder: Path, answer: str) -> None:
    """The children are programs that speak as ours do, but for ``answer``."""
    program = folder / "child"
    program.write_text(ANSWERING.format(python=os.path.realpath(sys.executable), answer=answer))
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))


@pytest.mark.parametrize("wrong", WRONG)
async def test_nonsense_fails_one_question_and_ends_the_child(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, wrong: str
) -> None:
    with monkeypatch.context() as patched:
        pretend(patched, tmp_path, WRONG[wrong])
        rigged_at = detecting()
        rigged = await rigged_at.__aenter__()
        await rigged.pid()
    with pytest.raises(DetectorFailed, match=r"nonsense|cannot be|what was asked"):
        await rigged.detection.find(FAST, [HUNDRED_KB], 5)
    await answered(rigged)
    assert rigged.events("detection_ended")[0]["reason"] == "answered nonsense"
    await rigged_at.__aexit__(None, None, None)


async def test_a_detector_that_fails_costs_no_child(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pretend(monkeypatch, tmp_path, "say({'number': number, 'failed': 'the recogniser x crashed'})")
    async with detecting() as rigged:
        for _ in range(2):
            with pytest.raises(DetectorFailed, match=r"^the recogniser x crashed$"):
                await rigged.detection.find(FAST, [HUNDRED_KB], 5)
        assert rigged.events("detection_ended") == []


async def test_what_a_child_says_is_told_in_part(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It is never stuck because nobody listens."""
    answer = "os.write(2, b'loud ' * 100_000); say(right); os.write(2, b'loud ' * 100_000); sys.exit(3)"
    pretend(monkeypatch, tmp_path, answer)
    async with detecting() as rigged:
        assert await rigged.detection.find(FAST, [of_size(LINE, 30_000)], 5) == []
        await until(lambda: bool(rigged.events("detection_ended")))
        (ended,) = rigged.events("detection_ended")
        assert 1000 < len(ended["said"]) <= MOST_NOISE_BYTES
        assert ended["exit"] in (3, -signal.SIGKILL)


def test_what_takes_too_long_ends_a_child_without_its_parent() -> None:
    child = subprocess.Popen(
        [sys.executable, "-m", "gateway.detection.child"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdin is not None and child.stdout is not None
    with child, child.stdin, child.stdout:
        child.stdin.write(
            frame({"kind": "learn", "number": 1, "within_s": 60, "detector": 0, "spec": pack_spec(FAST)})
        )
        child.stdin.flush()
        assert receive_frame(child.stdout) == {"number": 1}  # type: ignore[arg-type]
        search = {"kind": "search", "detector": 0, "cut": False, "lead": 0, "last": True}
        child.stdin.write(frame({**search, "number": 2, "within_s": 0.05, "texts": [TEN_MB]}))
        child.stdin.flush()
        assert receive_frame(child.stdout) is None  # type: ignore[arg-type]
        assert child.wait(10) == -signal.SIGALRM
