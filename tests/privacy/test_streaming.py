"""A stream comes to the same as the whole text, wherever it is cut, and shows nothing too early."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.privacy.interface import Blocked
from gateway.privacy.placeholders import AnswerPlaceholders, Placeholders
from gateway.privacy.streaming import Masker, Restorer, TextTransform, answer_transform
from tests.privacy.texts import EXAMPLES, PEM, PLAIN, cut, detector, engines, holding, nasty, whole

KNOWN = (
    ("EMAIL_ADDRESS", "john.doe@example.com"),
    ("CREDIT_CARD", 'a "quoted" \\ value'),
    ("LITERAL", "[LITERAL_9]"),
)
PROSE = (
    "Well, it is often said that a good answer takes its time; but in a stream, every word should come as "
    "soon as it is known. There were 3 of them in 2024, and 12 more came on Monday (the 5th). Who knows!\n"
) * 5


def _request() -> tuple[Placeholders, AnswerPlaceholders]:
    placeholders = holding()
    for entity, value in KNOWN:
        placeholders.token(entity, value)
    return placeholders, AnswerPlaceholders(placeholders)


def _run(transform: TextTransform, pieces: list[str]) -> str:
    return "".join([*(transform.feed(piece) for piece in pieces), transform.flush()])


@pytest.mark.parametrize("name", engines())
@settings(max_examples=300, deadline=None)
@given(text=nasty, seed=st.integers(0, 2**32), most=st.integers(1, 12))
def test_any_chunking_comes_to_the_whole_text(name: str, text: str, seed: int, most: int) -> None:
    engine = engines()[name]
    expected = whole(text, *_request(), engine)
    placeholders, answer = _request()
    assert _run(answer_transform(engine, placeholders, answer), cut(text, seed, most)) == expected


@pytest.mark.parametrize("name", engines())
@settings(max_examples=300, deadline=None)
@given(text=nasty, more=nasty)
def test_what_is_settled_stays(name: str, text: str, more: str) -> None:
    engine = engines()[name]
    end = engine.settled(text)
    assert 0 <= end <= len(text)
    alone = engine.find(text[:end])
    later = engine.find(text + more)
    assert [match for match in later if match.start < end] == alone


GLUED = [
    *(
        f"write to info{at}other-corp.com now"
        for at in ("&#64;", "&#0064;", "&#x40;", "&#X040;", "&commat;")
    ),
    *(f"write to info{at}other-corp.com now" for at in ("%40", "\\u0040", "\uff20")),
    f"mail jo2@corp.com{PEM} ok",
    f"key sk-proj-Ab1Cd2Ef3Gh4Ij5Kl6Mn7Op8ABCD{PEM} ok",
    "mail jo@corp.com-thanks a lot",
    "pay 4111  1111  1111  1111 now",
]


@pytest.mark.parametrize("name", engines())
@pytest.mark.parametrize("text", GLUED)
def test_what_is_glued_together_is_masked_wherever_it_is_cut(name: str, text: str) -> None:
    engine = engines()[name]
    expected = whole(text, *_request(), engine)
    for hidden in ("info", "jo", "corp", "1111", "sk-proj", "MIIE", "abcdEFGH"):
        assert hidden not in expected
    for place in range(1, len(text)):
        placeholders, answer = _request()
        pieces = [text[:place], text[place:]]
        assert _run(answer_transform(engine, placeholders, answer), pieces) == expected
    for size in (1, 2, 5):
        placeholders, answer = _request()
        pieces = [text[at : at + size] for at in range(0, len(text), size)]
        assert _run(answer_transform(engine, placeholders, answer), pieces) == expected


@settings(max_examples=200, deadline=None)
@given(nasty, nasty, st.integers(0, 2**32))
def test_restoring_streams_are_restoring_texts(text: str, other: str, seed: int) -> None:
    placeholders = holding()
    token = placeholders.token("EMAIL_ADDRESS", other)
    mixed = text.replace("[EMAIL_ADDRESS_1]", token) + token + text
    assert _run(Restorer(placeholders), cut(mixed, seed, 5)) == placeholders.restore(mixed)


json_values = st.recursive(
    st.one_of(
        nasty,
        st.integers(),
        st.booleans(),
        st.none(),
        st.sampled_from((4111111111111111, -4111111111111111)),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(nasty, inner, max_size=3)),
    max_leaves=5,
)


@settings(max_examples=200, deadline=None)
@given(json_values, st.booleans(), st.integers(0, 2**32))
def test_json_stays_valid_and_comes_to_the_same(value: Any, ascii_only: bool, seed: int) -> None:
    raw = json.dumps(value, ensure_ascii=ascii_only)
    first, second = _request(), _request()
    once = _run(answer_transform(detector(), *first, json=True), [raw])
    assert _run(answer_transform(detector(), *second, json=True), cut(raw, seed)) == once
    json.loads(once)


@pytest.mark.parametrize("value", PLAIN)
def test_no_split_of_an_answer_leaks(value: str) -> None:
    text = f"Sure, it is {value} (as you know). More soon."
    expected = whole(text, *_request())
    if value != KNOWN[0][1]:
        assert value not in expected
    for place in range(len(text) + 1):
        placeholders, answer = _request()
        assert (
            _run(answer_transform(detector(), placeholders, answer), [text[:place], text[place:]])
            == expected
        )
    placeholders, answer = _request()
    assert _run(answer_transform(detector(), placeholders, answer), list(text)) == expected


@pytest.mark.parametrize("value", PLAIN)
def test_nothing_of_it_is_shown_before_it_is_whole(value: str) -> None:
    placeholders = holding("mask")
    masker = Masker(detector(), AnswerPlaceholders(placeholders))
    shown = masker.feed("it is ")
    assert shown == "it is "
    assert "".join(masker.feed(character) for character in value) == ""
    assert masker.feed(", and so").startswith("[")


def test_own_placeholders_are_opened_others_are_not() -> None:
    placeholders, answer = _request()
    transform = answer_transform(detector(), placeholders, answer)
    text = "to [EMAIL_ADDRESS_1], [EMAIL_ADDRESS_2] and jane@example.org [EMAIL_ADDR"
    assert _run(transform, list(text)) == (
        "to john.doe@example.com, [EMAIL_ADDRESS_2] and [EMAIL_ADDRESS_3] [EMAIL_ADDR"
    )
    assert answer.counts == {"EMAIL_ADDRESS": 1}


def test_a_value_of_the_request_is_masked_where_nothing_is_restored() -> None:
    placeholders = holding("mask")
    token = placeholders.token("EMAIL_ADDRESS", "john.doe@example.com")
    masker = Masker(detector(), AnswerPlaceholders(placeholders))
    assert _run(masker, ["mail john.doe@", "example.com."]) == f"mail {token}."


@pytest.mark.parametrize("value", PLAIN)
@pytest.mark.parametrize("json_text", [False, True])
def test_nothing_of_what_is_blocked_is_shown(value: str, json_text: bool) -> None:
    masker = Masker(detector(), AnswerPlaceholders(holding("block")), json=json_text)
    text = f"it is {value} (as you know). More soon."
    text = json.dumps({"said": text}) if json_text else text
    shown: list[str] = []
    with pytest.raises(Blocked):
        shown.extend(masker.feed(character) for character in text)
    assert "".join(shown) == text[: text.index("it is ") + 6]
    with pytest.raises(Blocked):
        masker.flush()


def test_values_go_into_json_escaped() -> None:
    placeholders, answer = _request()
    raw = '{"to": "[EMAIL_ADDRESS_1]", "note": "[CREDIT_CARD_1]", "n": 4111111111111111, '
    raw += '"x": "a\\u0040example.com"}'
    once = _run(answer_transform(detector(), placeholders, answer, json=True), list(raw))
    assert json.loads(once) == {
        "to": "john.doe@example.com",
        "note": KNOWN[1][1],
        "n": "[CREDIT_CARD_2]",
        "x": "[EMAIL_ADDRESS_2]",
    }


def test_a_value_of_the_request_is_written_as_in_the_request() -> None:
    """So that whoever keeps the masked answer keeps no value."""
    placeholders, answer = _request()
    text = f"mail {KNOWN[0][1]}, and so on"
    assert _run(Masker(detector(), answer), list(text)) == "mail [EMAIL_ADDRESS_1], and so on"
    assert _run(answer_transform(detector(), placeholders, answer), list(text)) == text
    assert not answer.counts


@pytest.mark.parametrize("size", range(1, 12))
@pytest.mark.parametrize("mask", [True, False])
def test_escaped_placeholders_are_opened(size: int, mask: bool) -> None:
    placeholders, answer = _request()
    raw = r'{"a": "\u005bCREDIT_CARD_1\u005D, [EMAIL\u005fADDRESS_1] \\u005bEMAIL_ADDRESS_1] '
    raw += r'\u00e9\n \u005bEMAIL"}'
    transform = answer_transform(detector() if mask else None, placeholders, answer, json=True)
    once = _run(transform, [raw[place : place + size] for place in range(0, len(raw), size)])
    assert json.loads(once) == {"a": f"{KNOWN[1][1]}, {KNOWN[0][1]} \\u005bEMAIL_ADDRESS_1] é\n [EMAIL"}


def test_what_goes_on_behind_its_end_shows_no_whole_value() -> None:
    masker = Masker(detector(), AnswerPlaceholders(holding("mask")))
    shown = masker.feed("mail leak.er@prov") + masker.flush()
    assert shown == "mail leak.er@prov"
    assert masker.feed("ider-x.org, and") + masker.flush() == "[EMAIL_ADDRESS_1], and"
    assert masker.feed("rew") + masker.flush() == "rew"


@pytest.mark.parametrize("name", ["fast", "presidio"])
def test_plain_english_flows_word_by_word(name: str) -> None:
    placeholders, answer = _request()
    transform = answer_transform(engines()[name], placeholders, answer)
    given_out, taken_in, most, total = 0, 0, 0, 0
    for piece in PROSE.split(" "):
        taken_in += len(piece) + 1
        given_out += len(transform.feed(piece + " "))
        most, total = max(most, taken_in - given_out), total + taken_in - given_out
    assert most <= 12
    assert total / len(PROSE.split(" ")) < 1


@pytest.mark.parametrize(
    "unit", ["a", "=", "1 ", "12.5 ", "4111 ", "\u0301", "[", "-----BEGIN ", "\\", "a@"]
)
def test_holding_back_costs_linear_time(unit: str) -> None:
    def calls(size: int) -> int:
        counting = _Counting()
        placeholders = holding()
        _run(Masker(counting, AnswerPlaceholders(placeholders)), [unit] * size)
        return counting.seen

    assert calls(4000) < 8 * 2 * calls(500)


class _Counting:
    """Counts the characters that it was asked about."""

    entities = detector().entities
    reach = detector().reach

    def __init__(self) -> None:
        self.seen = 0

    def find(self, text: str) -> Any:
        self.seen += len(text)
        return detector().find(text)

    def settled(self, text: str) -> int:
        self.seen += len(text)
        return detector().settled(text)


def test_every_kind_has_an_example() -> None:
    assert set(EXAMPLES) == detector(url=True).entities
