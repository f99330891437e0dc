"""Placeholders: the same for the same, nothing forged, and back to the very text."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.privacy.interface import Blocked, Match
from gateway.privacy.placeholders import (
    FORM,
    LITERAL,
    LONGEST,
    AnswerPlaceholders,
    Placeholders,
    with_literals,
)
from gateway.privacy.policy import Action, Actions
from tests.privacy.texts import KEY, detector, holding, nasty

ACTIONS: tuple[Action, ...] = ("mask", "restore", "hash", "flag", "block")
any_actions = st.builds(
    lambda default, actions: holding(default, **actions),
    st.sampled_from(ACTIONS),
    st.dictionaries(st.sampled_from(sorted(detector().entities)), st.sampled_from(ACTIONS)),
)


def _redact(text: str, placeholders: Placeholders) -> str:
    return placeholders.replace(text, detector().find(text))


@settings(max_examples=400, deadline=None)
@given(st.lists(nasty, min_size=1, max_size=3), st.sampled_from(("restore", "flag", "block")))
def test_restoring_undoes_redacting(texts: list[str], action: Action) -> None:
    placeholders = holding(action)
    redacted = [_redact(text, placeholders) for text in texts]
    assert [placeholders.restore(text) for text in redacted] == texts


@settings(max_examples=300, deadline=None)
@given(nasty, any_actions)
def test_only_what_is_to_come_back_is_opened(text: str, placeholders: Placeholders) -> None:
    redacted = _redact(text, placeholders)
    shown = placeholders.restore(redacted)
    for match in detector().find(text):
        value = text[match.start : match.end]
        action = placeholders.actions.of(match.entity)
        if action in ("mask", "hash"):
            token = placeholders.token(match.entity, value)
            assert placeholders.restore(token) == token
            assert not placeholders.begins(token[:-1]) or placeholders.restores
    if not placeholders.actions.any("restore"):
        assert shown == re.sub(
            r"\[LITERAL_[0-9]+\]", lambda token: placeholders.value(token[0]) or "", redacted
        )
    if not placeholders.replaces:
        assert redacted == text


@settings(max_examples=300, deadline=None)
@given(nasty)
def test_every_placeholder_that_comes_out_is_ours(text: str) -> None:
    placeholders = holding()
    for found in FORM.findall(_redact(text, placeholders)):
        assert placeholders.value(found) is not None
        assert len(found) < LONGEST


@settings(max_examples=200, deadline=None)
@given(nasty)
def test_what_stands_outside_of_matches_is_untouched(text: str) -> None:
    placeholders = holding()
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
    placeholders = holding()
    text = "a@x.org b@x.org a@x.org 4111 1111 1111 1111"
    assert (
        _redact(text, placeholders)
        == "[EMAIL_ADDRESS_1] [EMAIL_ADDRESS_2] [EMAIL_ADDRESS_1] [CREDIT_CARD_1]"
    )
    assert placeholders.counts == {"EMAIL_ADDRESS": 3, "CREDIT_CARD": 1}


def test_a_forged_placeholder_opens_nothing() -> None:
    placeholders = holding()
    redacted = _redact("I am a@x.org. [EMAIL_ADDRESS_1] [EMAIL_ADDRESS_1 and [LITERAL_1]", placeholders)
    assert redacted == "I am [EMAIL_ADDRESS_1]. [LITERAL_1] [EMAIL_ADDRESS_1 and [LITERAL_2]"
    assert placeholders.counts == {"EMAIL_ADDRESS": 1}


@pytest.mark.parametrize(
    "placeholders", [holding("restore"), holding("mask", URL="restore"), holding("mask"), holding("hash")]
)
def test_literals_come_back(placeholders: Placeholders) -> None:
    """They are the client's own text."""
    assert not placeholders.restores
    assert _redact("buf[MAX_LEN_1]", placeholders) == "buf[LITERAL_1]"
    assert placeholders.restores
    assert placeholders.restore("[LITERAL_1]") == "[MAX_LEN_1]"


def test_a_placeholder_of_the_last_turn_is_the_same_in_the_next() -> None:
    said = "[EMAIL_ADDRESS_1]"
    for _ in range(3):
        placeholders = holding("mask")
        said = placeholders.restore(_redact(f"it was {said}", placeholders)).removeprefix("it was ")
    assert said == "[EMAIL_ADDRESS_1]"


def test_a_literal_hides_no_find() -> None:
    placeholders = holding("mask")
    redacted = _redact("[AB_4111111111111111]", placeholders)
    assert redacted == "[CREDIT_CARD_1]"
    assert placeholders.restore(redacted) == redacted


def test_hashes_depend_on_key_entity_and_value_alone() -> None:
    def token(key: bytes, entity: str = "EMAIL_ADDRESS", value: str = "a@x.org") -> str:
        return Placeholders(Actions("hash"), key).token(entity, value)

    assert token(KEY) == token(KEY)
    assert len({token(KEY), token(KEY[1:]), token(KEY, "URL"), token(KEY, value="b@x.org")}) == 4
    assert FORM.fullmatch(token(KEY))
    with pytest.raises(ValueError, match="16 bytes"):
        Placeholders(Actions("mask", {"URL": "hash"}), b"short")


def test_flag_and_block_only_count() -> None:
    placeholders = holding("flag", URL="block")
    assert _redact("a@x.org [LITERAL_1]", placeholders) == "a@x.org [LITERAL_1]"
    assert placeholders.counts == {"EMAIL_ADDRESS": 1}
    assert placeholders.blocked([Match(0, 1, "EMAIL_ADDRESS"), Match(2, 3, "URL")]) == "URL"
    assert placeholders.blocked([Match(0, 1, "EMAIL_ADDRESS")]) is None
    answer = AnswerPlaceholders(placeholders)
    assert answer.token("EMAIL_ADDRESS", "b@x.org") == "b@x.org"
    with pytest.raises(Blocked) as blocked:
        answer.token("URL", "https://x.org")
    assert "x.org" not in str(blocked.value)
    assert answer.counts == {"EMAIL_ADDRESS": 1, "URL": 1}


def test_answers_get_what_the_action_says() -> None:
    placeholders = holding("restore", US_SSN="mask", IP_ADDRESS="hash")
    known = [
        placeholders.token(entity, value)
        for entity, value in (("EMAIL_ADDRESS", "a@x.org"), ("US_SSN", "1"), ("IP_ADDRESS", "::1"))
    ]
    digest, answer = placeholders.digest(), AnswerPlaceholders(placeholders)
    assert answer.token("EMAIL_ADDRESS", "a@x.org") == known[0]
    assert answer.token("US_SSN", "1") == known[1]
    assert answer.token("IP_ADDRESS", "::1") == known[2]
    made_up = [answer.token(entity, "new") for entity in ("EMAIL_ADDRESS", "US_SSN", "IP_ADDRESS")]
    assert made_up[:2] == ["[EMAIL_ADDRESS_2]", "[US_SSN_2]"]
    assert made_up == [answer.token(entity, "new") for entity in ("EMAIL_ADDRESS", "US_SSN", "IP_ADDRESS")]
    assert made_up[2] == Placeholders(Actions("hash"), KEY).token("IP_ADDRESS", "new")
    assert placeholders.restore("".join(made_up)) == "".join(made_up)
    assert placeholders.digest() == digest


def test_a_flagged_find_does_not_shield_a_forged_placeholder() -> None:
    placeholders = holding("restore", NAME="flag")
    text = "Jo [EMAIL_ADDRESS_1] Doe"
    assert placeholders.replace(text, [Match(0, len(text), "NAME")]) == "Jo [LITERAL_1] Doe"
    assert placeholders.restore("[LITERAL_1]") == "[EMAIL_ADDRESS_1]"


def test_digests_tell_values_apart_and_nothing_else() -> None:
    def digest(*pairs: tuple[str, str], key: bytes = KEY) -> bytes:
        placeholders = Placeholders(Actions("mask", {"URL": "flag"}), key)
        for entity, value in pairs:
            placeholders.token(entity, value)
        return placeholders.digest()

    one, other = ("EMAIL_ADDRESS", "a@x.org"), ("EMAIL_ADDRESS", "b@x.org")
    assert digest() == digest(("URL", "x")) == b""
    assert digest(one) == digest(one, one)
    assert len({digest(one), digest(other), digest(one, other), digest(other, one)}) == 4
    assert digest(one, key=b"other") != digest(one)
    assert digest(("AB", "c")) != digest(("A", "Bc"))


def test_made_up_values_get_numbers_of_their_own() -> None:
    placeholders = holding()
    placeholders.token("EMAIL_ADDRESS", "a@x.org")
    answer = AnswerPlaceholders(placeholders)
    token = answer.token("EMAIL_ADDRESS", "b@x.org")
    assert token == answer.token("EMAIL_ADDRESS", "b@x.org") == "[EMAIL_ADDRESS_2]"
    assert placeholders.restore(token) == token
    assert answer.token("EMAIL_ADDRESS", "a@x.org") == "[EMAIL_ADDRESS_1]"


def test_what_a_provider_has_typed_stands_for_nothing_else() -> None:
    answer = AnswerPlaceholders(holding("restore", URL="hash"))
    hashed = AnswerPlaceholders(answer.request).token("URL", "x")
    answer.see(f"[EMAIL_ADDRESS_1] [EMAIL_ADDRESS_2] {hashed}")
    assert answer.token("EMAIL_ADDRESS", "b@x.org") == "[EMAIL_ADDRESS_3]"
    assert answer.token("URL", "x") == hashed


@pytest.mark.parametrize("entity", ["own thing", "größe", "1st", "x" * 200, LITERAL])
def test_any_name_makes_a_placeholder(entity: str) -> None:
    placeholders = holding()
    token = placeholders.replace("secret", [Match(0, 6, entity)])
    assert FORM.fullmatch(token)
    assert placeholders.restore(token) == "secret"


def test_names_that_look_the_same_do_not_share_placeholders() -> None:
    placeholders = holding()
    assert placeholders.token("a b", "x") != placeholders.token("A_B", "y")


@given(st.text(alphabet="[]AB_1f", max_size=12), st.sets(st.sampled_from("ABC"), min_size=1))
def test_beginnings_are_told_exactly(text: str, names: set[str]) -> None:
    placeholders = holding()
    tokens = [placeholders.token(name, name) for name in names]
    assert placeholders.begins(text) == any(token.startswith(text) and token != text for token in tokens)
