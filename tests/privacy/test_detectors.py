"""Detectors as a tenant describes them: each engine, own recognisers with both, two joined."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.privacy.detect_fast import FastDetector
from gateway.privacy.detectors import build_detector, gate
from gateway.privacy.entities import CATALOGUE, NAME_ENTITIES, PRESIDIO_ENTITIES, SECRET_ENTITIES
from gateway.privacy.guarded import Guarded
from gateway.privacy.interface import Detector, DetectorFailed, Match
from gateway.privacy.joined import Joined
from gateway.privacy.policy import DetectorSpec
from gateway.privacy.presidio import PresidioDetector
from gateway.privacy.presidio_catalogue import catalogue
from gateway.privacy.presidio_secrets import secret_finders
from tests.accuracy.sentences import read

STAFF = {
    "name": "staff",
    "supported_entity": "EMPLOYEE_ID",
    "patterns": [
        {"name": "long", "regex": r"EMP-\d{6}", "score": 0.8},
        {"name": "short", "regex": r"\bE\d{4}\b", "score": 0.1},
    ],
    "context": ["badge"],
}
ROOM = {
    "name": "room",
    "supported_entity": "PHONE_NUMBER",
    "patterns": [{"name": "p", "regex": r"\bx\d{4}\b", "score": 0.9}],
}
WIDE = {
    "name": "line",
    "supported_entity": "CASE",
    "patterns": [{"name": "p", "regex": r"case [a-z .@-]+ closed", "score": 1}],
}
FAST = DetectorSpec(
    "fast", ("CREDIT_CARD", "EMAIL_ADDRESS", "IBAN_CODE", "PHONE_NUMBER"), phone_regions=("US",)
)
PRESIDIO = replace(FAST, engine="presidio", phone_regions=())


def own(*recognisers: Mapping[str, object]) -> str:
    return json.dumps(recognisers)


def found(detector: Detector, text: str) -> list[tuple[str, str]]:
    return [(match.entity, text[match.start : match.end]) for match in detector.find(text)]


def run(code: str) -> str:
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("spec", [FAST, PRESIDIO], ids=["fast", "presidio"])
def test_each_engine_finds_what_is_asked_for_and_nothing_else(spec: DetectorSpec) -> None:
    text = "mail jo@example.com or ring 212-555-0142 from 192.0.2.1"
    detector = build_detector(spec)
    assert found(detector, text) == [("EMAIL_ADDRESS", "jo@example.com"), ("PHONE_NUMBER", "212-555-0142")]
    assert detector.entities == set(spec.entities)


@pytest.mark.parametrize("spec", [FAST, PRESIDIO], ids=["fast", "presidio"])
def test_own_recognisers_are_beside_the_engines(spec: DetectorSpec) -> None:
    detector = build_detector(replace(spec, recognisers=own(STAFF, ROOM)))
    text = "EMP-123456 at jo@example.com, x1234 or 212-555-0142"
    assert found(detector, text) == [
        ("EMPLOYEE_ID", "EMP-123456"),
        ("EMAIL_ADDRESS", "jo@example.com"),
        ("PHONE_NUMBER", "x1234"),
        ("PHONE_NUMBER", "212-555-0142"),
    ]
    assert detector.entities == {*spec.entities, "EMPLOYEE_ID"}


@pytest.mark.parametrize("spec", [FAST, PRESIDIO], ids=["fast", "presidio"])
def test_all_that_a_tenant_says_holds_for_both_kinds_of_recognisers(spec: DetectorSpec) -> None:
    detector = build_detector(
        replace(
            spec,
            recognisers=own(STAFF),
            allow=("EMP-000000", "info@example.com"),
            allow_patterns=(r"EMP-9+", r".*@example\.org"),
            deny=("Falcon",),
        )
    )
    text = "EMP-000000 EMP-999999 EMP-123456 info@example.com jo@example.org jo@example.com falcon"
    assert found(detector, text) == [
        ("EMPLOYEE_ID", "EMP-123456"),
        ("EMAIL_ADDRESS", "jo@example.com"),
        ("DENY_LIST", "falcon"),
    ]


@pytest.mark.parametrize("spec", [FAST, PRESIDIO], ids=["fast", "presidio"])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("the E1234 engine", []),
        ("my badge is E1234", [("EMPLOYEE_ID", "E1234")]),
        ("Badges: E1234 and E9876", [("EMPLOYEE_ID", "E1234"), ("EMPLOYEE_ID", "E9876")]),
        ("badge, " + "then many other large words follow " * 2 + "E1234", []),
    ],
)
def test_context_words_count_in_both_engines(
    spec: DetectorSpec, text: str, expected: list[tuple[str, str]]
) -> None:
    assert found(build_detector(replace(spec, recognisers=own(STAFF))), text) == expected


def test_what_only_own_recognisers_find_needs_no_engine() -> None:
    detector = build_detector(DetectorSpec("fast", ("EMPLOYEE_ID",), recognisers=own(STAFF)))
    assert isinstance(detector, PresidioDetector)
    assert detector.entities == {"EMPLOYEE_ID"}
    assert found(detector, "jo@example.com EMP-123456") == [("EMPLOYEE_ID", "EMP-123456")]


def test_denied_words_alone() -> None:
    for engine in ("fast", "presidio"):
        detector = build_detector(DetectorSpec(engine, ("DENY_LIST",), deny=("Falcon",)))
        assert found(detector, "the falcon flies") == [("DENY_LIST", "falcon")]


def test_an_own_recogniser_of_names_needs_no_model() -> None:
    people = {"name": "staff", "supported_entity": "PERSON", "deny_list": ["Ada Lovelace"]}
    spec = DetectorSpec("presidio", ("EMAIL_ADDRESS", "PERSON"), recognisers=own(people))
    text = "ada lovelace, ada@example.com"
    assert found(build_detector(spec), text) == [
        ("PERSON", "ada lovelace"),
        ("EMAIL_ADDRESS", "ada@example.com"),
    ]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (DetectorSpec("fast", ("SHOE_SIZE",)), "no recogniser for SHOE_SIZE"),
        (DetectorSpec("presidio", ("SHOE_SIZE",)), "no recogniser for SHOE_SIZE"),
        (DetectorSpec("presidio", ("PERSON",)), "PERSON can only be found with a model"),
        (replace(PRESIDIO, entities=("PERSON",), model_path="/none"), "there is no model at /none"),
        (replace(FAST, allow_patterns=("(?!x)",)), "not a pattern of RE2: invalid perl operator"),
        (replace(FAST, recognisers=own({"name": "x"})), r"recognisers\[0\].supported_entity: must be"),
    ],
)
def test_what_cannot_be_built_is_refused_in_words(spec: DetectorSpec, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_detector(spec)


HEAVY = ("presidio_analyzer", "presidio_anonymizer", "spacy", "tldextract", "thinc", "numpy")


def test_own_recognisers_with_the_fast_engine_import_no_presidio() -> None:
    spec = replace(FAST, recognisers=own(STAFF, ROOM), deny=("Falcon",))
    printed = run(
        f"""
        import sys
        from gateway.privacy.detectors import build_detector
        from gateway.privacy.policy import DetectorSpec
        detector = build_detector({spec!r})
        text = "badge E1234 jo@example.com falcon\\n" * 9
        print(len(detector.find(text)), detector.settled(text) > 0)
        print([name for name in {HEAVY!r} if name in sys.modules])
        """
    )
    assert printed == "27 True\n[]"


def test_the_names_of_entities_are_those_of_presidio() -> None:
    assert set(catalogue()) == CATALOGUE
    assert set().union(*(one.entities for one in secret_finders(SECRET_ENTITIES))) == SECRET_ENTITIES
    assert PRESIDIO_ENTITIES > NAME_ENTITIES


def test_what_is_looked_at_around_flagged_spots_is_what_is_looked_at_everywhere() -> None:
    entities = tuple(sorted(CATALOGUE - {"URL"} | SECRET_ENTITIES))
    spec = DetectorSpec("presidio", entities, languages=("en", "de", "fr", "es"))
    flagged, everywhere = build_detector(spec), build_detector(replace(spec, scan="all"))
    sentences = [one.text for one in read()]
    prose = "plain words without anything in them " * 300
    joined = [" ".join(sentences[at : at + 12]) for at in range(0, 240, 12)]
    finds = 0
    for text in (*sentences[::9], *joined, prose.join(sentences[:4]), prose + "fe80::abcd:1"):
        matches = everywhere.find(text)
        assert flagged.find(text) == matches, text
        finds += len(matches)
    assert finds > 200


def test_the_gate_flags_little_of_prose_and_none_is_had_for_addresses_of_the_web() -> None:
    flagged = gate(frozenset({"UK_NHS", "EMAIL_ADDRESS"}))
    assert flagged is not None
    assert list(flagged("plain words, 2 of them, a@b")) == [(13, 14), (25, 26)]
    assert gate(frozenset({"EMAIL_ADDRESS", "URL"})) is None


JOINED = build_detector(
    replace(FAST, recognisers=own(STAFF, ROOM, WIDE), deny=("Mr. Big Falcon", "red\nkite"))
)
PIECES = st.sampled_from(
    [
        *"a .,\n-@0:",
        "EMP-123456",
        "EMP-12",
        "E1234 ",
        "badge ",
        "x1234",
        "jo@example.com",
        "ends. Next ",
        "case ",
        " closed",
        "2125550142",
        "212-555-",
        "0142 ",
        "4111 1111 1111 1111",
        "DE89 3704 0044 0532 0130 00",
        "Mr. Big ",
        "Falcon",
        "red\n",
        "kite",
        "\u200b",
        "é",
        "word " * 5,
        "1 2 3 4 5 6 7 8 9 " * 8,
    ]
)
TEXTS = st.lists(PIECES, max_size=24).map("".join)


def test_the_detector_of_these_properties_is_a_joined_one() -> None:
    assert isinstance(JOINED, Joined)
    assert JOINED.reach >= FastDetector.reach


@given(TEXTS, TEXTS)
@settings(max_examples=400, deadline=None)
def test_what_is_settled_is_found_as_in_the_whole(text: str, more: str) -> None:
    place = JOINED.settled(text)
    assert 0 <= place <= len(text)
    whole = JOINED.find(text + more)
    assert not any(match.start < place < match.end for match in whole)
    assert JOINED.find(text[:place]) == [match for match in whole if match.end <= place]


@given(TEXTS)
@settings(max_examples=200, deadline=None)
def test_matches_are_in_order_without_overlaps_and_cover_what_either_finds(text: str) -> None:
    matches = JOINED.find(text)
    assert all(one.end <= other.start for one, other in pairwise(matches))
    assert isinstance(JOINED, Joined)
    for part in (build_detector(FAST), build_detector(replace(FAST, entities=(), recognisers=own(STAFF)))):
        for match in part.find(text):
            assert any(one.start <= match.start and match.end <= one.end for one in matches)


def test_a_line_is_settled_at_once() -> None:
    text = "mail jo@example.com, EMP-123456\n"
    assert JOINED.settled(text + "and th") == len(text)


def test_a_text_without_line_ends_is_settled_as_it_goes() -> None:
    text = "one word after the other and 1 or 2 numbers in between " * 400
    place = JOINED.settled(text)
    assert len(text) - place < 10_000
    assert JOINED.find(text[:place]) == []


class _Half:
    entities = frozenset({"EMAIL_ADDRESS"})
    reach = 1

    def find(self, text: str) -> list[Match]:
        raise DetectorFailed("one crashed", [Match(0, 3, "EMAIL_ADDRESS")])

    def settled(self, text: str) -> int:
        return len(text)


def test_what_is_found_beside_a_fault_counts_where_faults_pass() -> None:
    both = Joined(_Half(), build_detector(FAST))
    passed: list[str] = []
    text = "a@b jo@example.com"
    with pytest.raises(DetectorFailed, match="one crashed"):
        Guarded(both).find(text)
    guarded = Guarded(both, lambda: passed.append("passed"))
    assert found(guarded, text) == [("EMAIL_ADDRESS", "a@b"), ("EMAIL_ADDRESS", "jo@example.com")]
    assert passed == ["passed"]
