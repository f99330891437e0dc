"""Texts in which nothing is ever settled: cut by force, what is in them is found all the same."""

from __future__ import annotations

import pytest

from gateway.detection.question import LEAST_BOUND, Question
from gateway.privacy.forced import cut_by_force
from gateway.privacy.interface import Match
from gateway.privacy.placeholders import AnswerPlaceholders, Placeholders
from gateway.privacy.policy import Actions
from gateway.privacy.streaming import Masker
from tests.detection.rig import FAST
from tests.unit.test_detection import BUILT, searched

DETECTOR = BUILT[FAST]
UNBROKEN = "=".join(f"key{number}=mail{number}@example.com" for number in range(19_000))
"""More than half a million characters without a break, and with mails all over them."""


async def test_a_text_without_a_break_is_shown_in_bounded_parts() -> None:
    question = Question(FAST, DETECTOR, [UNBROKEN, "jo@example.com"], 1000, 10)
    shown = []
    while question.open:
        slice_ = question.cut()
        shown.append(len(slice_.texts[0]))
        question.take(slice_, searched(slice_))
    assert max(shown) <= LEAST_BOUND + DETECTOR.reach
    assert await question.answer == [DETECTOR.find(UNBROKEN), DETECTOR.find("jo@example.com")]


async def test_what_is_longer_than_the_bound_is_found_in_parts() -> None:
    text = "x" * (3 * LEAST_BOUND) + "@example.com"
    question = Question(FAST, DETECTOR, [text], 1000, 10)
    while question.open:
        slice_ = question.cut()
        question.take(slice_, searched(slice_))
    ((match,),) = await question.answer
    assert match.end == len(text)
    assert match.start <= len(text) - DETECTOR.reach


@pytest.mark.parametrize("lead", [0, 100])
def test_a_cut_is_in_no_match(lead: int) -> None:
    mail = "jo.doe@example.com"
    for shift in range(0, 40, 3):
        text = "=" * (1000 - shift) + mail + "=" * (DETECTOR.reach - 5)
        matches, end = cut_by_force(DETECTOR, text, lead)
        assert end > lead
        assert all(match.end <= end for match in matches)
        rest = DETECTOR.find(text[end - DETECTOR.reach :])
        behind = [match for match in rest if match.end > DETECTOR.reach]
        assert len(matches) + len(behind) == 1


def test_a_match_that_fills_the_text_is_cut_in_two() -> None:
    text = "jo@" + "example." * 100 + "com"
    assert cut_by_force(DETECTOR, text, 3) == (
        [Match(0, len(text) - DETECTOR.reach, "EMAIL_ADDRESS")],
        len(text) - DETECTOR.reach,
    )


@pytest.mark.parametrize("size", [100, 5000, len(UNBROKEN)])
def test_a_stream_without_a_break_is_held_back_in_bounded_parts(size: int) -> None:
    answer = AnswerPlaceholders(Placeholders(Actions("mask"), b""))
    masker = Masker(DETECTOR, answer)
    out, most = "", 0
    for start in range(0, len(UNBROKEN), size):
        out += masker.feed(UNBROKEN[start : start + size])
        most = max(most, masker.held_chars)
    assert most < 100_000
    out += masker.flush()
    assert "@" not in out
    assert out.count("key") == 19_000
    assert answer.counts == {"EMAIL_ADDRESS": 19_000}


def test_a_match_longer_than_what_is_held_back_stays_masked() -> None:
    masker = Masker(DETECTOR, AnswerPlaceholders(Placeholders(Actions("mask"), b"")))
    out = masker.feed("jo@" + "example." * 30_000) + masker.feed("com and more") + masker.flush()
    assert "jo" not in out
    assert out.endswith(" and more")
