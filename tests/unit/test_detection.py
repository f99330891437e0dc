"""Where texts are searched: the slices of a question, the order of questions, and what is no answer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, Literal

import orjson
import pytest
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.detection import detection as detection_module
from gateway.detection import messages
from gateway.detection.child import _answer
from gateway.detection.detection import Detection, inline_chars
from gateway.detection.messages import Nonsense, pack_spec, unpack_matches, unpack_spec
from gateway.detection.question import Question, Slice
from gateway.detection.searching import search
from gateway.detection.waiting import MOST_CHARS, Waiting
from gateway.middleware.redact import found_in
from gateway.privacy.detectors import build_detector
from gateway.privacy.interface import Detector, DetectorFailed, Match, PartlyFailed, TooManyFinds
from gateway.privacy.policy import Actions, DetectorSpec, Policy
from tests.detection.rig import FAST, MAIL_ONLY, PRESIDIO, Rigged, detecting, of_size
from tests.privacy.texts import EXAMPLES, nasty

EVERYTHING = DetectorSpec(
    "fast",
    tuple(sorted(set(EXAMPLES) - {"DENY_LIST"})),
    deny=EXAMPLES["DENY_LIST"],
    phone_regions=("US", "DE"),
)
BUILT: dict[DetectorSpec, Detector] = {spec: build_detector(spec) for spec in (EVERYTHING, FAST, MAIL_ONLY)}

some_texts = st.lists(nasty, min_size=1, max_size=6)


def asked(texts: list[str], slice_chars: int = 100, spec: DetectorSpec = FAST) -> Question:
    return Question(spec, BUILT[spec], texts, slice_chars, 10)


def searched(slice_: Slice, spec: DetectorSpec = FAST) -> dict[str, Any]:
    return search(BUILT[spec], asdict(slice_))


async def in_slices(texts: list[str], slice_chars: int, spec: DetectorSpec) -> list[list[Match]]:
    question = asked(texts, slice_chars, spec)
    while question.open:
        slice_ = question.cut()
        question.take(slice_, searched(slice_, spec))
    return await question.answer


def at_once(texts: list[str], spec: DetectorSpec) -> list[list[Match]]:
    found = [BUILT[spec].find(text) for text in texts]
    return found if any(found) else []


@given(some_texts, st.integers(1, 200), st.integers(1, 20))
@settings(max_examples=200, deadline=None)
def test_slices_find_what_is_found_at_once(texts: list[str], slice_chars: int, times: int) -> None:
    texts = [text * times for text in texts]

    async def run() -> None:
        assert await in_slices(texts, slice_chars, EVERYTHING) == at_once(texts, EVERYTHING)

    asyncio.run(run())


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.Runner]:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        yield runner


@given(some_texts, st.integers(1, 40), st.sampled_from([FAST, MAIL_ONLY, EVERYTHING]))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_child_finds_what_is_found_at_once(
    loop: asyncio.Runner, child: Rigged, texts: list[str], times: int, spec: DetectorSpec
) -> None:
    texts = [text * times for text in texts]
    assert loop.run(child.detection.find(spec, texts, 20)) == at_once(texts, spec)


@pytest.fixture
def child(loop: asyncio.Runner, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rigged]:
    monkeypatch.setattr(detection_module, "inline_chars", lambda spec: 0)
    monkeypatch.setattr(detection_module, "QUIET_CHARS", 0)
    monkeypatch.setattr(detection_module, "slice_chars", lambda spec: 500)
    living = detecting(BUILT)
    yield loop.run(living.__aenter__())
    loop.run(living.__aexit__(None, None, None))


async def test_a_long_text_without_a_break_is_seen_whole() -> None:
    text = "a" * 3000 + "jo.doe@example.com"
    question = asked([text, "jo@example.com"], 10)
    seen = []
    while question.open:
        slice_ = question.cut()
        seen.append(len(slice_.texts[0]))
        question.take(slice_, searched(slice_))
    assert await question.answer == at_once([text, "jo@example.com"], FAST)
    assert len(seen) < 8


async def test_short_texts_are_searched_together_and_long_ones_are_not() -> None:
    question = asked(["a" * 40, "b" * 40, "c" * 40, "d" * 101], 100)
    assert question.cut().texts == ["a" * 40, "b" * 40]
    many = asked(["x"] * 5000, 100_000)
    assert not many.short
    assert len(many.cut().texts) == 1024


NONSENSE: list[Any] = [
    None,
    "matches",
    {},
    [1],
    [0, 1, "EMAIL_ADDRESS", 1.0, 0],
    [0, 11, "EMAIL_ADDRESS", 1.0],
    [-1, 1, "EMAIL_ADDRESS", 1.0],
    [1, 1, "EMAIL_ADDRESS", 1.0],
    [2, 1, "EMAIL_ADDRESS", 1.0],
    [0, 3, "EMAIL_ADDRESS", 1.0, 2, 4, "EMAIL_ADDRESS", 1.0],
    [4, 6, "EMAIL_ADDRESS", 1.0, 0, 2, "EMAIL_ADDRESS", 1.0],
    [False, True, "EMAIL_ADDRESS", 1.0],
    [0.0, 1.0, "EMAIL_ADDRESS", 1.0],
    ["0", "1", "EMAIL_ADDRESS", 1.0],
    [0, 1, 7, 1.0],
    [0, 1, ["EMAIL_ADDRESS"], 1.0],
    [0, 1, "US_SSN", 1.0],
    [0, 1, "EMAIL_ADDRESS", 1.5],
    [0, 1, "EMAIL_ADDRESS", None],
    [0, 1, "EMAIL_ADDRESS", float("nan")],
]


@pytest.mark.parametrize("packed", NONSENSE, ids=repr)
def test_nonsense_is_no_answer(packed: Any) -> None:
    with pytest.raises(Nonsense):
        unpack_matches(packed, 10, {"EMAIL_ADDRESS"})


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"found": None, "end": 0},
        {"found": [], "end": 0},
        {"found": [[], []], "end": 0},
        {"found": [[]], "end": 10_000},
        {"found": [[]], "end": -1},
        {"found": [[]], "end": True},
        {"found": [[]]},
    ],
    ids=repr,
)
async def test_an_answer_to_something_else_is_none(answer: dict[str, Any]) -> None:
    question = asked(["word " * 100], 100)
    slice_ = question.cut()
    with pytest.raises(Nonsense):
        question.take(slice_, answer)


def test_a_description_comes_out_as_it_went_in() -> None:
    for spec in (FAST, PRESIDIO, EVERYTHING):
        assert unpack_spec(orjson.loads(orjson.dumps(pack_spec(spec)))) == spec


async def test_too_many_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    question = asked(["jo@example.com " * 30], 100)
    monkeypatch.setattr("gateway.detection.question.MOST_MATCHES", 29)
    while question.open:
        slice_ = question.cut()
        question.take(slice_, searched(slice_))
    with pytest.raises(TooManyFinds, match=r"^more than 20000 finds$"):
        await question.answer
    monkeypatch.setattr("gateway.detection.searching.MOST_MATCHES", 29)
    assert searched(Slice(["jo@example.com " * 30])) == {"failed": messages.TOO_MANY}


async def test_short_and_long_questions_take_turns() -> None:
    waiting = Waiting()
    long = [asked(["word " * 100], 100) for _ in range(3)]
    short = [asked(["word"], 100) for _ in range(3)]
    for question in long + short:
        waiting.add(question)
    order = []
    for _ in range(9):
        taken = await waiting.next(lambda: True, lambda question: True)
        assert taken is not None
        order.append((long + short).index(taken))
        if taken in long:
            waiting.put(taken)
    assert [one for one in order if one < 3] == [0, 1, 2, 0, 1, 2]
    assert [one for one in order if one >= 3] == [3, 4, 5]
    assert max(order.index(one) for one in (3, 4, 5)) < 7
    for question in long + short:
        waiting.forget(question)


async def test_what_waits_is_bounded() -> None:
    waiting = Waiting()
    half = "x" * (MOST_CHARS // 2)
    first = asked([half])
    waiting.add(first)
    with pytest.raises(DetectorFailed, match=r"^too much text waits to be searched$"):
        waiting.add(asked([half]))
    waiting.forget(first)
    waiting.add(asked([half]))


async def test_who_gave_up_is_not_searched_for() -> None:
    waiting = Waiting()
    gone, there = asked(["word"]), asked(["word"])
    for question in (gone, there):
        waiting.add(question)
    waiting.forget(gone)
    assert await waiting.next(lambda: True, lambda question: True) is there


async def test_what_is_short_needs_no_child() -> None:
    detection = Detection(Rigged(1).tasks.keep, lambda *told, **fields: None)
    detection.adopt([FAST])
    text = of_size("jo.doe@example.com ", inline_chars(FAST))
    assert await detection.find(FAST, [text], 1) == [BUILT[FAST].find(text)]
    assert await detection.find(FAST, ["nothing ", "here"], 1) == []
    assert await detection.find(FAST, [], 1) == []
    assert await detection.find(FAST, ["", ""], 1) == []
    assert await detection.find(FAST, ["all is quiet " * 10_000], 0) == []


async def test_without_a_child_a_long_text_takes_too_long() -> None:
    detection = Detection(Rigged(1).tasks.keep, lambda *told, **fields: None)
    detection.adopt([FAST])
    with pytest.raises(DetectorFailed, match=r"^looking for personal data took more than 0\.1 s$"):
        await detection.find(FAST, ["jo.doe@example.com " * 10_000], 0.1)


def test_how_much_is_searched_at_once() -> None:
    names = DetectorSpec("presidio", ("PERSON",), model_path="/nowhere")
    flagged = DetectorSpec("presidio", ("US_SSN",))
    assert [inline_chars(spec) for spec in (FAST, flagged, PRESIDIO, names)] == [8192, 2048, 1024, 0]


def test_what_cannot_be_built_is_not_adopted() -> None:
    detection = Detection(Rigged(1).tasks.keep, lambda *told, **fields: None)
    detection.adopt([FAST])
    kept = detection.detector(FAST)
    with pytest.raises(ValueError, match="UNHEARD_OF"):
        detection.adopt([MAIL_ONLY, DetectorSpec("fast", ("UNHEARD_OF",))])
    assert detection.detector(FAST) is kept


def test_a_detector_is_built_once_and_forgotten_after_two_reloads() -> None:
    detection = Detection(Rigged(1).tasks.keep, lambda *told, **fields: None)
    detection.adopt([FAST])
    kept = detection.detector(FAST)
    detection.adopt([MAIL_ONLY])
    assert detection.detector(FAST) is kept
    detection.adopt([MAIL_ONLY])
    assert detection.detector(FAST) is not kept


class Crashing:
    entities = frozenset({"EMAIL_ADDRESS"})
    reach = 10

    def __init__(self, what: Exception | list[Match]) -> None:
        self._what = what

    def find(self, text: str) -> list[Match]:
        if isinstance(self._what, Exception):
            raise self._what
        return self._what

    def settled(self, text: str) -> int:
        return 0


@pytest.mark.parametrize(
    ("what", "message"),
    [
        (RecursionError("jo@example.com"), "the detector crashed with RecursionError"),
        (DetectorFailed("the recogniser x crashed"), "the recogniser x crashed"),
        ([Match(0, 99, "EMAIL_ADDRESS")], "the detector gave a match that cannot be"),
        ([Match(0, 1, "US_SSN")], "the detector gave a match of an entity that it does not look for"),
    ],
)
async def test_a_fault_at_once_is_a_failed_detector(
    monkeypatch: pytest.MonkeyPatch, what: Exception | list[Match], message: str
) -> None:
    monkeypatch.setattr(detection_module, "build_detector", lambda spec: Crashing(what))
    detection = Detection(Rigged(1).tasks.keep, lambda *told, **fields: None)
    with pytest.raises(DetectorFailed) as failed:
        await detection.find(FAST, ["some text"], 1)
    assert str(failed.value) == message


HALF = DetectorFailed("the recogniser x crashed", [Match(0, 4, "EMAIL_ADDRESS")])


async def test_what_is_found_beside_a_fault_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detection_module, "build_detector", lambda spec: Crashing(HALF))
    detection = Detection(Rigged(1).tasks.keep, lambda *told, **fields: None)
    with pytest.raises(PartlyFailed, match=r"^the recogniser x crashed$") as failed:
        await detection.find(FAST, ["some text", "more"], 1)
    assert failed.value.found == [[Match(0, 4, "EMAIL_ADDRESS")]] * 2


async def test_what_a_child_finds_beside_a_fault_is_told() -> None:
    question = asked(["some text", "more"])
    slice_ = question.cut()
    message = {**asdict(slice_), "kind": "search", "detector": 0, "number": 1}
    question.take(slice_, _answer({0: Crashing(HALF)}, message))
    with pytest.raises(PartlyFailed, match=r"^the recogniser x crashed$") as failed:
        await question.answer
    assert failed.value.found == [[Match(0, 4, "EMAIL_ADDRESS")]] * 2


@pytest.mark.parametrize("on_failure", ["refuse", "pass"])
async def test_a_fault_passes_where_the_tenant_lets_it(
    monkeypatch: pytest.MonkeyPatch, on_failure: Literal["refuse", "pass"]
) -> None:
    monkeypatch.setattr(detection_module, "build_detector", lambda spec: Crashing(HALF))
    detection = Detection(Rigged(1).tasks.keep, lambda *told, **fields: None)
    policy = Policy(FAST, Actions("mask", {}), bytes(16), on_failure=on_failure)
    passed: list[str] = []
    search = found_in(detection, policy, ["some text"], lambda: passed.append("passed"))
    if on_failure == "refuse":
        with pytest.raises(DetectorFailed):
            await search
    else:
        assert await search == [[Match(0, 4, "EMAIL_ADDRESS")]]
    assert len(passed) == (on_failure == "pass")
