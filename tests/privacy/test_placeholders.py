"""Placeholders: the same for the same, nothing forged, and back to the very text."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.privacy.interface import Match
from gateway.privacy.placeholders import (
    FORM,
    LITERAL,
    LONGEST,
    AnswerPlaceholders,
    Mode,
    Placeholders,
    with_literals,
)
from tests.privacy.texts import detector, nasty

KEY = b"k" * 32


def _redact(text: str, placeholders: Placeholders) -> str:
    return placeholders.replace(text, with_literals(text, detector().find(text)))


@settings(max_examples=400, deadline=None)
@given(st.lists(nasty, min_size=1, max_size=3), st.sampled_from(("mask", "hash", "flag", "block")))
def test_restoring_undoes_redacting(texts: list[str], mode: Mode) -> None:
    placeholders = Placeholders(mode, KEY)
    redacted = [_redact(text, placeholders) for text in texts]
    assert [placeholders.restore(text) for text in redacted] == texts


@settings(max_examples=300, deadline=None)
@given(nasty)
def test_every_placeholder_that_comes_out_is_ours(text: str) -> None:
    placeholders = Placeholders()
    for found in FORM.findall(_redact(text, placeholders)):
        assert placeholders.value(found) is not None
        assert len(found) < LONGEST


@settings(max_examples=200, deadline=None)
@given(nasty)
def test_what_stands_outside_of_matches_is_untouched(text: str) -> None:
    placeholders = Placeholders()
    matches = with_literals(text, detector().find(text))
    redacted = placeholders.replace(text, matches)
    behind = place = 0
    for match in matches:
        before = text[behind : match.start]
        token = placeholders.token(match.entity, text[match.start : match.end])
        assert redacted[place : place + len(before) + len(token)] == before + token
        place += len(before) + len(token)
        behind = match.end
    assert redacted[place:] == text[behind:]


def test_equal_values_share_a_placeholder_and_numbers_follow_the_text() -> None:
    placeholders = Placeholders()
    text = "a@x.org b@x.org a@x.org 4111 1111 1111 1111"
    assert (
        _redact(text, placeholders)
        == "[EMAIL_ADDRESS_1] [EMAIL_ADDRESS_2] [EMAIL_ADDRESS_1] [CREDIT_CARD_1]"
    )
    assert placeholders.counts == {"EMAIL_ADDRESS": 3, "CREDIT_CARD": 1}


def test_a_forged_placeholder_opens_nothing() -> None:
    placeholders = Placeholders()
    redacted = _redact("I am a@x.org. [EMAIL_ADDRESS_1] [EMAIL_ADDRESS_1 and [LITERAL_1]", placeholders)
    assert redacted == "I am [EMAIL_ADDRESS_1]. [LITERAL_1] [EMAIL_ADDRESS_1 and [LITERAL_2]"
    assert placeholders.counts == {"EMAIL_ADDRESS": 1}


def test_hashes_depend_on_key_entity_and_value_alone() -> None:
    def token(key: bytes, entity: str = "EMAIL_ADDRESS", value: str = "a@x.org") -> str:
        return Placeholders("hash", key).token(entity, value)

    assert token(KEY) == token(KEY)
    assert len({token(KEY), token(KEY[1:]), token(KEY, "URL"), token(KEY, value="b@x.org")}) == 4
    assert FORM.fullmatch(token(KEY))
    with pytest.raises(ValueError, match="16 bytes"):
        Placeholders("hash", b"short")


@pytest.mark.parametrize("mode", ["flag", "block"])
def test_flag_and_block_only_count(mode: Mode) -> None:
    placeholders = Placeholders(mode)
    assert _redact("a@x.org", placeholders) == "a@x.org"
    assert placeholders.counts == {"EMAIL_ADDRESS": 1}
    answer = AnswerPlaceholders(placeholders, restore=False)
    assert answer.token("EMAIL_ADDRESS", "b@x.org") == "b@x.org"
    assert answer.counts == {"EMAIL_ADDRESS": 1}


def test_made_up_values_get_numbers_of_their_own() -> None:
    placeholders = Placeholders()
    placeholders.token("EMAIL_ADDRESS", "a@x.org")
    answer = AnswerPlaceholders(placeholders, restore=True)
    token = answer.token("EMAIL_ADDRESS", "b@x.org")
    assert token == answer.token("EMAIL_ADDRESS", "b@x.org") == "[EMAIL_ADDRESS_2]"
    assert placeholders.restore(token) == token
    assert answer.token("EMAIL_ADDRESS", "a@x.org") == "a@x.org"


@pytest.mark.parametrize("entity", ["own thing", "größe", "1st", "x" * 200, LITERAL])
def test_any_name_makes_a_placeholder(entity: str) -> None:
    placeholders = Placeholders()
    token = placeholders.replace("secret", [Match(0, 6, entity)])
    assert FORM.fullmatch(token)
    assert placeholders.restore(token) == "secret"


def test_names_that_look_the_same_do_not_share_placeholders() -> None:
    placeholders = Placeholders()
    assert placeholders.token("a b", "x") != placeholders.token("A_B", "y")


@given(st.text(alphabet="[]AB_1f", max_size=12), st.sets(st.sampled_from("ABC"), min_size=1))
def test_beginnings_are_told_exactly(text: str, names: set[str]) -> None:
    placeholders = Placeholders()
    tokens = [placeholders.token(name, name) for name in names]
    assert placeholders.begins(text) == any(token.startswith(text) and token != text for token in tokens)
