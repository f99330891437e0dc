"""Digits of all scripts, marks and unseen characters among real data: no crash, no match that cannot be."""

from __future__ import annotations

import unicodedata
from functools import cache

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.privacy.detectors import build_detector
from gateway.privacy.entities import CATALOGUE, SECRET_ENTITIES
from gateway.privacy.interface import Detector
from gateway.privacy.policy import DetectorSpec
from tests.privacy.texts import PLAIN, engines, named

ODD = [
    chr(code)
    for code in (
        *range(0x80, 0x3400),
        *range(0xA000, 0xAC00),
        *range(0xF900, 0x20000),
        *range(0xE0000, 0xE0200),
    )
    if unicodedata.category(chr(code)) in ("Nd", "Nl", "No", "Mn", "Me", "Mc", "Cf")
]
NUMERALS = [character for character in ODD if unicodedata.category(character)[0] == "N"]
TAGS = [chr(code) for code in range(0xE0020, 0xE0080)]
NUMBERS = [value for value in PLAIN if sum(map(str.isdigit, value)) > 4]


@cache
def everything() -> Detector:
    entities = tuple(sorted(CATALOGUE | SECRET_ENTITIES))
    return build_detector(
        DetectorSpec("presidio", entities, languages=("en", "de", "fr", "es"), threshold=0.0)
    )


@st.composite
def disguised(draw: st.DrawFn) -> str:
    """Real data in which some digits are others, and some characters have odd ones behind them."""
    value = draw(st.sampled_from(PLAIN))
    spots = draw(st.dictionaries(st.integers(0, len(value) - 1), st.sampled_from(ODD), max_size=6))
    swapped = draw(st.dictionaries(st.integers(0, len(value) - 1), st.sampled_from(NUMERALS), max_size=6))
    letters = [
        (swapped.get(place, letter) if letter.isdigit() else letter) + spots.get(place, "")
        for place, letter in enumerate(value)
    ]
    return "".join(letters)


mixed = st.lists(
    st.one_of(
        disguised(),
        st.text(alphabet=st.sampled_from(ODD), max_size=8),
        st.text(alphabet=st.sampled_from([*"0123456789 -./", *NUMERALS[:60]]), max_size=24),
        st.sampled_from(
            (" ", "\n", "ssn ", "passport ", "call ", "card ", "NHS ", "Steuer-ID ", "at ", "@", ".")
        ),
    ),
    max_size=8,
).map("".join)


@pytest.mark.parametrize("name", [*engines(), "everything"])
@settings(max_examples=250, deadline=None)
@given(text=mixed)
@example("The host is 192.168.1.1² (see note 2); mail jo.smith@corp-mail.com")
@example("4౨111111111111111")
@example("1111٠٠４１１１4111 11111111")
def test_odd_characters_crash_nothing(name: str, text: str) -> None:
    engine = everything() if name == "everything" else engines()[name]
    behind = 0
    for match in engine.find(text):
        assert behind <= match.start < match.end <= len(text)
        assert match.entity in engine.entities
        assert 0 <= match.score <= 1
        behind = match.end
    assert 0 <= engine.settled(text) <= len(text)


@pytest.mark.parametrize("name", engines())
def test_a_footnote_hides_no_other_match(name: str) -> None:
    text = "The host is 192.168.1.1² (see note 2); mail jo.smith@corp-mail.com"
    assert ("jo.smith@corp-mail.com", "EMAIL_ADDRESS") in named(engines()[name].find(text), text)


@pytest.mark.parametrize("name", engines())
@pytest.mark.parametrize(
    "value", ["jo.smith@corp.com", "4111 1111 1111 1111", "DE89 3704 0044 0532 0130 00"]
)
def test_tags_are_read_through(name: str, value: str) -> None:
    for tag in TAGS:
        spread = tag.join(value)
        hidden = [value[:place] + tag + value[place:] for place in (1, 2, len(value) // 2, len(value) - 1)]
        for written in (spread, *hidden):
            text = f"it is {written} ok"
            assert [found for found, _ in named(engines()[name].find(text), text)] == [written]


GLUED = {
    "jo@corp.com-thanks": "jo@corp.com",
    "jo@corp.com-Vertrag": "jo@corp.com",
    "jo@corp.co-op": "jo@corp.co",
    "jo@corp.co.uk-op": "jo@corp.co.uk",
    "jo@corp.com2": "jo@corp.com",
    "jo@corp.com2.": "jo@corp.com",
    "jo@corp.com_x": "jo@corp.com",
    "jo@corp.com.": "jo@corp.com",
    "jo@corp.com-x.de": "jo@corp.com-x.de",
    "jo@corp.com-----BEGIN": "jo@corp.com",
    "jo%40corp.com": "jo%40corp.com",
    "4111.1111.1111.1111": "4111.1111.1111.1111",
    "4111\xa01111\xa01111\xa01111": "4111\xa01111\xa01111\xa01111",
    "4111  1111  1111  1111": "4111  1111  1111  1111",
    "4111 1111  1111 1111": "4111 1111  1111 1111",
    "de89370400440532013000": "de89370400440532013000",
}


@pytest.mark.parametrize("name", engines())
@pytest.mark.parametrize("written", GLUED)
def test_what_is_glued_or_spaced_is_found_by_each_engine(name: str, written: str) -> None:
    text = f"it is {written} ok"
    assert [found for found, _ in named(engines()[name].find(text), text)] == [GLUED[written]]


@pytest.mark.parametrize("name", engines())
@pytest.mark.parametrize(
    "text",
    [
        "pkg@1.2.3",
        "pkg@1.2.rc1",
        "foo@1.0.beta2",
        "icon@2x.png-old",
        "root@db01.prod-eu",
        "4111   1111   1111   1111",
    ],
)
def test_versions_and_hosts_are_no_addresses(name: str, text: str) -> None:
    assert engines()[name].find(text) == []


@settings(max_examples=300, deadline=None)
@given(text=mixed)
def test_what_presidio_calls_quiet_holds_nothing(text: str) -> None:
    """It is not looked at any further then; with a tab in the text it is, in each line."""
    quick = engines()["presidio"]
    assert quick.find(text) == [match for match in quick.find(f"{text}\n\t") if match.start < len(text)]
