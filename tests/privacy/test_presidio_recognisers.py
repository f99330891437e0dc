"""A tenant's own recognisers, in Presidio's YAML."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import yaml

from gateway.privacy.presidio import PresidioDetector
from gateway.privacy.recognisers import RecogniserFault, parse_recognisers, read_recognisers

DOCUMENT = """
recognizers:
  - name: Employee id
    supported_entity: EMPLOYEE_ID
    supported_languages: [{language: en, context: [employee, badge]}, de]
    patterns:
      - {name: strong, regex: '\\bEMP-\\d{6}\\b', score: 0.9}
      - {name: weak, regex: '\\b\\d{6}\\b', score: 0.01}
  - name: Code names
    supported_entity: PROJECT
    supported_language: en
    deny_list: [Blue Heron, Ölberg]
    deny_list_score: 0.8
  - {name: off, enabled: false, supported_entity: OFF, patterns: [{name: x, regex: x, score: 1}]}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "recognisers.yaml"
    file.write_text(DOCUMENT, encoding="utf-8")
    return file


def found(detector: PresidioDetector, text: str) -> list[tuple[str, str]]:
    return [(match.entity, text[match.start : match.end]) for match in detector.find(text)]


def test_they_join_the_built_in_ones(path: Path) -> None:
    detector = PresidioDetector(["EMAIL_ADDRESS"], recognisers=read_recognisers(path))
    assert detector.entities == {"EMAIL_ADDRESS", "EMPLOYEE_ID", "PROJECT"}
    assert found(detector, "emp-123456 runs blue heron, Ölbergs not; jo@example.com") == [
        ("EMPLOYEE_ID", "emp-123456"),
        ("PROJECT", "blue heron"),
        ("EMAIL_ADDRESS", "jo@example.com"),
    ]
    assert found(detector, "am Ölberg") == [("PROJECT", "Ölberg")]


def test_their_context_words_count(path: Path) -> None:
    detector = PresidioDetector([], recognisers=read_recognisers(path))
    assert found(detector, "the badge 654321 was lost") == [("EMPLOYEE_ID", "654321")]
    assert found(detector, "the parcel 654321 was lost") == []


def test_invisible_characters_hide_nothing_from_them(path: Path) -> None:
    detector = PresidioDetector([], deny=["Falcon"], recognisers=read_recognisers(path))
    assert found(detector, "EMP-12\u200b3456 and Fal\u00adcon") == [
        ("EMPLOYEE_ID", "EMP-12\u200b3456"),
        ("DENY_LIST", "Fal\u00adcon"),
    ]


def test_presidio_reads_the_same_file(path: Path) -> None:
    from presidio_analyzer import PatternRecognizer

    entry = yaml.safe_load(path.read_text(encoding="utf-8"))["recognizers"][1]
    theirs = PatternRecognizer.from_dict(entry)
    results = theirs.analyze("blue heron", ["PROJECT"])
    (ours,) = read_recognisers(path)[1].find("blue heron")
    assert [(r.start, r.end, r.score) for r in results] == [(ours.start, ours.end, ours.score)]


@pytest.mark.parametrize("regex", [r"(?<=a)b", r"a(?=b)", r"(a)\1", r"(?!x)y", "(", r"a{2000}"])
def test_what_re2_refuses_is_refused_in_words(regex: str) -> None:
    entry = {
        "name": "x",
        "supported_entity": "X",
        "patterns": [{"name": "p", "regex": regex, "score": 0.5}],
    }
    with pytest.raises(
        RecogniserFault, match=r"recognizers\[0\].patterns\[0\].regex: the pattern is refused by RE2"
    ):
        parse_recognisers([entry])


GOOD = {"name": "x", "supported_entity": "X", "patterns": [{"name": "p", "regex": "x", "score": 0.5}]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": None}, r"\[0\].name: must be a text"),
        ({"supported_entity": "lower case"}, "use capitals"),
        ({"supported_entities": ["A", "B"]}, "not both"),
        ({"patterns": []}, "nothing to find"),
        ({"patterns": {"regex": "x"}}, "must be a list"),
        ({"patterns": [{"name": "p", "regex": "x", "score": 0.5, "flags": 2}]}, "only"),
        ({"patterns": [{"name": "p", "regex": "x", "score": 3}]}, r"patterns\[0\].score: must be a number"),
        ({"patterns": [{"name": "p", "regex": "x", "score": True}]}, "must be a number"),
        ({"patterns": [{"name": "p", "regex": "x*", "score": 0.5}]}, "matches the empty text"),
        ({"patterns": [{"name": "p", "regex": "x" * 5000, "score": 0.5}]}, "over 4000 characters"),
        ({"type": "predefined"}, "only `custom`"),
        ({"regex": "x"}, "unknown key `regex`"),
        ({"context": "badge"}, "must be a list of words"),
        ({"deny_list": [7]}, r"deny_list\[0\]: must be a text"),
        ({"supported_languages": "en"}, "must be a list such as"),
        ({"global_regex_flags": 64}, "may add 2"),
    ],
)
def test_faults_name_the_place_and_the_remedy(change: dict[str, object], message: str) -> None:
    with pytest.raises(RecogniserFault, match=message):
        parse_recognisers([{**GOOD, **change}])


@pytest.mark.parametrize(
    "document", [None, [], {}, {"recognizers": []}, "text", {"recognisers": [GOOD]}, [5]]
)
def test_a_document_without_recognisers_is_refused(document: object) -> None:
    with pytest.raises(RecogniserFault):
        parse_recognisers(document)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecogniserFault, match="cannot be read"):
        read_recognisers(tmp_path / "none.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: [")
    with pytest.raises(RecogniserFault, match="is not valid YAML"):
        read_recognisers(broken)


def test_nested_quantifiers_take_linear_time() -> None:
    patterns = [
        {"name": "p", "regex": "(a+)+$", "score": 0.5},
        {"name": "q", "regex": "(a|aa)+b", "score": 0.5},
    ]
    (recogniser,) = parse_recognisers([{**GOOD, "patterns": patterns}])

    def took(length: int) -> float:
        text = "a" * length + "!"
        began = time.monotonic()
        recogniser.find(text)
        return time.monotonic() - began

    took(10)
    assert min(took(200_000) for _ in range(3)) < 40 * max(min(took(20_000) for _ in range(3)), 0.001)
