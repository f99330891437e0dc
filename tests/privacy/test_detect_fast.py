"""What is found, however it is hidden; what is not; and that it takes linear time."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.privacy.detect_fast import SUPPORTED, DetectionPolicy, FastDetector
from tests.privacy.texts import EXAMPLES, INVISIBLE, detector, named, nasty

SAMPLES = [(entity, value) for entity, values in EXAMPLES.items() for value in values]


@pytest.mark.parametrize(("entity", "value"), SAMPLES)
@pytest.mark.parametrize(
    "frame",
    ["{}", "x {} y", "({}), and", '"{}"', "a:\n{}\nb", "日本{}語", "<b>{}</b>", "value={} & ", "…{}…"],
)
def test_examples_are_found_whole(entity: str, value: str, frame: str) -> None:
    text = frame.format(value)
    assert (value, entity) in named(detector(url=entity == "URL").find(text), text)


@pytest.mark.parametrize(
    ("entity", "value"), [(e, v) for e, v in SAMPLES if e not in ("URL", "PRIVATE_KEY")]
)
@pytest.mark.parametrize("invisible", INVISIBLE)
def test_nothing_invisible_hides(entity: str, value: str, invisible: str) -> None:
    character = INVISIBLE[invisible]
    for place in range(1, len(value)):
        hidden = value[:place] + character + value[place:]
        text = f"I say: {hidden} ok\u200b é"
        assert named(detector().find(text), text) == [(hidden, entity)]
    spread = character.join(value)
    text = f"I say: {spread} ok"
    assert named(detector().find(text), text) == [(spread, entity)]


def _digits(value: str, zero: int) -> str:
    return "".join(chr(zero + int(c)) if c.isascii() and c.isdigit() else c for c in value)


@pytest.mark.parametrize(
    "zero", [0xFF10, 0x1D7CE, 0x1D7D8, 0x1D7F6, 0x0660, 0x06F0, 0x0966, 0x09E6], ids=hex
)
@pytest.mark.parametrize("value", ["4111 1111 1111 1111", "+49 89 12345678", "536-22-1234", "203.0.113.77"])
def test_digits_of_other_scripts(value: str, zero: int) -> None:
    written = _digits(value, zero)
    text = f"it is {written} ok"
    assert [found for found, _ in named(detector().find(text), text)] == [written]


CIRCLED = dict(zip("0123456789", "⓪①②③④⑤⑥⑦⑧⑨", strict=True))
SUPERSCRIPT = dict(zip("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹", strict=True))


@pytest.mark.parametrize("digits", [CIRCLED, SUPERSCRIPT])
def test_decorated_digits(digits: dict[str, str]) -> None:
    written = "".join(digits[c] for c in "4111111111111111")
    assert named(detector().find(f"no {written}."), f"no {written}.") == [(written, "CREDIT_CARD")]


@pytest.mark.parametrize(
    "written",
    [
        "john@example．com",
        "john＠example.com",
        "ｊｏｈｎ＠ｅｘａｍｐｌｅ．ｃｏｍ",
        "john﹫example。com",
        "jоhn@еxample.com",
        "𝐣𝐨𝐡𝐧@𝐞𝐱𝐚𝐦𝐩𝐥𝐞.𝐜𝐨𝐦",
        "ⓙⓞⓗⓝ@ⓔⓧⓐⓜⓟⓛⓔ.ⓒⓞⓜ",
        "john%40example.com",
        "john&#64;example.com",
        "john&#x40;example.com",
        "john\\u0040example.com",
        "josé@exämple.com",
    ],
)
def test_other_spellings_of_mail_addresses(written: str) -> None:
    text = f"mail {written} now"
    assert named(detector().find(text), text) == [(written, "EMAIL_ADDRESS")]


@pytest.mark.parametrize("written", ["АКIA" + "IOSFODNN7EXAMPL3", "DЕ89370400440532013000"])
def test_look_alikes(written: str) -> None:
    assert [found for found, _ in named(detector().find(written), written)] == [written]


@pytest.mark.parametrize(
    "text",
    [
        "order #4111111111111111",
        "Order number: 4111111111111111",
        "tracking no. 4155552671",
        "build 2024-01-15 10:30:45",
        "550e8400-e29b-41d4-a716-446655440000",
        "d41d8cd98f00b204e9800998ecf8427e",
        "version 10.0.3.1",
        "v1.2.3.4",
        "01.02.2024, 15/03/2023 and 2024-01-15T10:30:00Z",
        "1700000000 and 1700000000000",
        "3.14159265358979",
        "pi=3.141592653589793238",
        "icon@2x.png",
        "@john.doe",
        "npm i pkg@1.2.3",
        "std::vector<abc::def>",
        "risk-assessment-of-2024-projects",
        "sk-folding-cube-spinner-of-some-kind",
        "1,234,567,890",
        "127.0.0.1 and ::1",
        "ISBN 978-3-16-148410-0",
        "10:30:45",
        "4111 1111 1111 1112",
        "0000 0000 0000 0000",
        "①②③④⑤⑥⑦⑧⑨⑩⑪⑫⑬⑭⑮⑯",
        "41111111111111½",
        "411111111111111¹",
        "4111111111111111a",
        "GB29 is a postcode of 60161331926819",
        "e=mc² in 1905",
        "x: 100000000000, y: 200000000000",
        "0.0.0.0:8080",
        "aa:bb",
        "sha256:" + "ab12" * 16,
        "rgba(255, 255, 255, 0.5)",
        "1 2 3 4 5 6 7 8 9 10 11 12",
        "12.5 33.1 44.2 55.0 61.7",
        "2024 2025 2026 2027",
        "room 415, desk 555-26",
    ],
)
def test_what_only_looks_alike(text: str) -> None:
    assert named(detector().find(text), text) == []


@settings(max_examples=300, deadline=None)
@given(nasty)
def test_matches_are_in_order_apart_and_inside(text: str) -> None:
    behind = 0
    for match in detector(url=True).find(text):
        assert behind <= match.start < match.end <= len(text)
        assert match.entity in SUPPORTED
        assert 0.4 <= match.score <= 1
        behind = match.end


@settings(max_examples=300, deadline=None)
@given(st.lists(nasty, max_size=4))
def test_quiet_texts_hold_nothing(texts: list[str]) -> None:
    if detector().quiet(texts):
        assert [detector().find(text) for text in texts] == [[] for _ in texts]


@settings(max_examples=300, deadline=None)
@given(nasty, st.sampled_from(sorted(SUPPORTED - {"DENY_LIST"})))
def test_policy_decides(text: str, entity: str) -> None:
    only = FastDetector(DetectionPolicy(frozenset({entity}), phone_regions=("US",)))
    assert {match.entity for match in only.find(text)} <= {entity}


def test_allowed_values_do_not_count() -> None:
    policy = DetectionPolicy(
        frozenset({"EMAIL_ADDRESS"}), allow=("Info@Example.com",), allow_patterns=(r".*@our\.example",)
    )
    text = "info@example.com me@our.example you@their.example me@our.example.com"
    assert named(FastDetector(policy).find(text), text) == [
        ("you@their.example", "EMAIL_ADDRESS"),
        ("me@our.example.com", "EMAIL_ADDRESS"),
    ]


def test_denied_words_are_whole_and_in_any_case() -> None:
    policy = DetectionPolicy(frozenset(), deny=("acme", "Projekt Süd", "  "))
    text = "ACME, acmes, acme-x, projekt süd, project sud!"
    found = FastDetector(policy)
    assert [value for value, _ in named(found.find(text), text)] == [
        "ACME",
        "acme",
        "projekt süd",
        "Projekt Sud",
    ][:3]
    assert found.entities == {"DENY_LIST"}


def test_threshold_decides() -> None:
    text = "4155552671 and 415-555-2671"
    for threshold, expected in ((0.2, 2), (0.5, 1), (0.9, 0)):
        policy = DetectionPolicy(frozenset({"PHONE_NUMBER"}), threshold=threshold)
        assert len(FastDetector(policy).find(text)) == expected


def test_what_nobody_can_do_is_refused() -> None:
    with pytest.raises(ValueError, match="PERSON"):
        FastDetector(DetectionPolicy(frozenset({"PERSON"})))
    with pytest.raises(ValueError, match="RE2"):
        FastDetector(DetectionPolicy(frozenset({"URL"}), allow_patterns=("(",)))
    with pytest.raises(ValueError, match="region"):
        FastDetector(DetectionPolicy(frozenset({"PHONE_NUMBER"}), phone_regions=("XX",)))


def test_overlapping_finds_are_covered_as_one() -> None:
    text = "see https://example.org/?mail=john@example.org&x=1 now"
    found = detector(url=True).find(text)
    assert [text[match.start : match.end] for match in found] == [
        "https://example.org/?mail=john@example.org&x=1"
    ]


BOMBS = (
    "a",
    "a@",
    "@",
    "a.",
    "a@a.",
    "1",
    "1 ",
    "1-",
    "4111 ",
    "+1",
    "(",
    "(1",
    "0 0",
    "0123 ",
    "+49 ",
    "1.",
    ":",
    "a:",
    "::1",
    "DE89 ",
    "GB29",
    "eyJ",
    "eyJaaaaaaaaaa.",
    "sk-",
    "sk-a1",
    "-----BEGIN PRIVATE KEY-----",
    "-----BEGIN ",
    "0x",
    "bc1",
    "http://",
    "www.",
    "\u0301",
    "\ufdfa",
    "\u200b1",
    "\uff14 ",
    "[",
    "\\u0040",
    "%40",
    "%",
    "&#0",
    "aa:",
    "tel 0123456 ",
    "415 555 2671 ",
    "project blue ",
    "a@b..",
)


def _least_time(text: str) -> float:
    best = float("inf")
    for _ in range(3):
        start = time.process_time()
        detector(url=True).find(text)
        best = min(best, time.process_time() - start)
    return best


@pytest.mark.parametrize("unit", BOMBS)
def test_time_is_linear(unit: str) -> None:
    """Ten times as much text takes no more than about ten times as long; quadratic would be a hundred."""
    small = unit * (20_000 // len(unit))
    detector(url=True).find(small)
    assert _least_time(small * 10) < 35 * max(_least_time(small), 0.0005)


@pytest.mark.parametrize(
    "text", ["e" + "\u0301" * 80_000, "\ufdfa" * (1_000_000 // 3)], ids=["marks", "fdfa"]
)
def test_folding_bombs(text: str) -> None:
    """Well below 50 ms each; the margin is for a busy machine."""
    assert detector().find(text) == []
    assert _least_time(text) < 0.15
