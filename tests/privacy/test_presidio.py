"""Presidio's recognisers behind the gateway's rules: offline, lazy, bounded, and closed when they fail."""

from __future__ import annotations

import logging
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.privacy.interface import DetectorFailed, Match
from gateway.privacy.presidio import PresidioDetector
from gateway.privacy.presidio_catalogue import UnknownEntity
from gateway.privacy.presidio_names import ModelMissing
from tests.accuracy.scoring import STRUCTURED
from tests.accuracy.sentences import read

ALL = (*STRUCTURED, "URL", "UK_NHS", "MAC_ADDRESS")


@pytest.fixture(scope="module")
def detector() -> PresidioDetector:
    return PresidioDetector(ALL, ("en", "de", "fr", "es"))


def found(detector: PresidioDetector, text: str) -> list[tuple[str, str]]:
    return [(match.entity, text[match.start : match.end]) for match in detector.find(text)]


def run(code: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", textwrap.dedent(code)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_importing_the_module_imports_none_of_the_heavy_packages() -> None:
    done = run(
        """
        import sys
        import gateway.privacy.presidio
        heavy = {"presidio_analyzer", "spacy", "tldextract", "thinc"} & set(sys.modules)
        assert not heavy, heavy
        """
    )
    assert done.returncode == 0, done.stderr


def test_it_never_asks_the_network() -> None:
    done = run(
        """
        import socket
        class Refused(socket.socket):
            def __init__(self, *args, **kwargs):  # urllib3 asks, when imported, whether IPv6 is there
                raise OSError("no sockets here")
        def refused(*args, **kwargs):
            raise SystemExit("the network was asked for")
        socket.socket = Refused
        socket.getaddrinfo = socket.create_connection = refused
        from gateway.privacy.presidio import PresidioDetector
        detector = PresidioDetector(["EMAIL_ADDRESS", "URL", "PHONE_NUMBER", "IBAN_CODE"])
        text = "see https://www.example.com, ask jo@example.co.uk or call 212-555-0142"
        print([text[m.start : m.end] for m in detector.find(text)])
        """
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "['https://www.example.com', 'jo@example.co.uk', '212-555-0142']"


def test_presidio_cannot_log_what_it_looks_at(
    detector: PresidioDetector, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    detector.find("IBAN DE89 3704 0044 0532 0130 00, mail jane@example.com")
    assert "jane" not in caplog.text
    assert "3704" not in caplog.text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mail jane@mail.example.com", [("EMAIL_ADDRESS", "jane@mail.example.com")]),
        ("ring 415-555-0123", [("PHONE_NUMBER", "415-555-0123")]),
        ("NHS 943 476 5919", [("UK_NHS", "943 476 5919")]),
        ("pay 4111.1111.1111 or 4111-1111-1111-1111", None),
        ("user=jane@example.com", [("EMAIL_ADDRESS", "jane@example.com")]),
        ("git clone git@github.com:a/b.git", None),
        ("paid with 2223003122003222", [("CREDIT_CARD", "2223003122003222")]),
    ],
)
def test_known_quirks_are_put_right(
    detector: PresidioDetector, text: str, expected: list[tuple[str, str]] | None
) -> None:
    names = found(detector, text)
    if expected is not None:
        assert names == expected
    assert not {("EMAIL_ADDRESS", "git@github.com"), ("MAC_ADDRESS", "1111-1111-1111")} & set(names)


def test_a_rival_hides_false_matches_though_nobody_asked_for_it() -> None:
    urls = PresidioDetector(["URL"])
    assert found(urls, "jane@mail.example.com and www.example.com") == [("URL", "www.example.com")]
    assert urls.entities == {"URL"}
    numbers = PresidioDetector(["UK_NHS"])
    assert found(numbers, "call (943) 476-5919, NHS no 943 476 5919") == [("UK_NHS", "943 476 5919")]


def test_context_words_raise_a_weak_match() -> None:
    ssn = PresidioDetector(["US_SSN"])
    assert found(ssn, "her social security number 536228745") == [("US_SSN", "536228745")]
    assert found(ssn, "her locker number 536228745") == []


def test_allowed_patterns_hold_for_whole_matches() -> None:
    listed = PresidioDetector(["EMAIL_ADDRESS"], allow_patterns=[r".*@example\.org"])
    assert found(listed, "a@example.org b@example.org.uk") == [("EMAIL_ADDRESS", "b@example.org.uk")]


def test_allowed_texts_pass_and_denied_words_do_not() -> None:
    listed = PresidioDetector(
        ["EMAIL_ADDRESS"], allow=["Support@example.com"], deny=["Projekt Übermut", "Falcon"]
    )
    text = "support@example.com knows of projekt übermut and Falcon, not of Falconry; me@example.com"
    assert found(listed, text) == [
        ("DENY_LIST", "projekt übermut"),
        ("DENY_LIST", "Falcon"),
        ("EMAIL_ADDRESS", "me@example.com"),
    ]


def test_the_gate_limits_where_presidio_looks() -> None:
    asked: list[str] = []

    def gate(text: str) -> list[tuple[int, int]]:
        asked.append(text)
        return [(text.index("-"), text.index("-") + 1)]

    gated = PresidioDetector(["UUID"], gate=gate)
    first, second = "550e8400-e29b-41d4-a716-446655440000", "6ba7b810-9dad-41d1-80b4-00c04fd430c8"
    text = f"{first} " + "word " * 200 + second
    assert found(gated, text) == [("UUID", first)]
    assert asked == [text]
    assert len(found(PresidioDetector(["UUID"]), text)) == 2


def test_an_unknown_entity_is_refused_by_name() -> None:
    with pytest.raises(UnknownEntity, match=r"no recogniser for SHOE_SIZE; use one of .*EMAIL_ADDRESS"):
        PresidioDetector(["SHOE_SIZE"])


@pytest.mark.parametrize("entity", ["PERSON", "LOCATION", "NRP", "ORGANIZATION"])
def test_names_without_a_model_are_refused(entity: str) -> None:
    with pytest.raises(ModelMissing, match=f"{entity} can only be found with a model"):
        PresidioDetector([entity])


def test_a_model_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelMissing, match="there is no model at"):
        PresidioDetector(["PERSON"], model_path=tmp_path / "none")
    with pytest.raises(ModelMissing, match="is no spaCy model"):
        PresidioDetector(["PERSON"], model_path=tmp_path)


def test_a_configuration_may_not_download(tmp_path: Path) -> None:
    path = tmp_path / "engine.yaml"
    path.write_text("nlp_engine_name: spacy\nmodels: [{lang_code: en, model_name: en_core_web_lg}]\n")
    with pytest.raises(ModelMissing, match="en_core_web_lg is not on this machine"):
        PresidioDetector(["PERSON"], model_path=path)
    path.write_text("models: 5\n")
    with pytest.raises(ModelMissing, match="needs `models`"):
        PresidioDetector(["PERSON"], model_path=path)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real spaCy model on disk: a ruler that knows three names."""
    import spacy

    language = spacy.blank("en")
    ruler = language.add_pipe("entity_ruler")
    ruler.add_patterns(  # type: ignore[attr-defined]
        [
            {"label": "PERSON", "pattern": "Ada Lovelace"},
            {"label": "GPE", "pattern": "London"},
            {"label": "ORG", "pattern": "Analytical Engines Ltd"},
        ]
    )
    folder = tmp_path_factory.mktemp("model") / "names"
    language.to_disk(folder)
    return folder


def test_names_are_found_with_a_local_model(model: Path) -> None:
    names = PresidioDetector(["PERSON", "LOCATION", "ORGANIZATION"], model_path=model)
    assert found(names, "Hello.\nAda Lovelace of Analytical Engines Ltd lives in London.") == [
        ("PERSON", "Ada Lovelace"),
        ("ORGANIZATION", "Analytical Engines Ltd"),
        ("LOCATION", "London"),
    ]
    configuration = model.parent / "engine.yaml"
    configuration.write_text(
        f"nlp_engine_name: spacy\nmodels: [{{lang_code: en, model_name: '{model}'}}]\n"
    )
    by_file = PresidioDetector(["PERSON"], model_path=configuration)
    assert found(by_file, "Ada Lovelace, London") == [("PERSON", "Ada Lovelace")]


def test_a_crash_is_a_failed_detector_and_tells_nothing_of_the_text(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from presidio_analyzer.predefined_recognizers import EmailRecognizer

    def crash(*args: object, **kwargs: object) -> None:
        raise RuntimeError("jane@example.com")

    monkeypatch.setattr(EmailRecognizer, "analyze", crash)
    with pytest.raises(DetectorFailed, match="EmailRecognizer crashed with RuntimeError") as caught:
        PresidioDetector(["EMAIL_ADDRESS"]).find("jane@example.com")
    assert "jane" not in str(caught.value)


@pytest.mark.parametrize(
    "nonsense", [(-1, 3, 0.5), (4, 900, 0.5), (5, 5, 0.5), (1, 3, 7.0), (1, 3, float("nan"))]
)
def test_nonsense_is_a_failed_detector(
    nonsense: tuple[int, int, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    from presidio_analyzer import RecognizerResult
    from presidio_analyzer.predefined_recognizers import MacAddressRecognizer

    start, end, weight = nonsense
    answer = [RecognizerResult("MAC_ADDRESS", start, end, weight)]
    monkeypatch.setattr(MacAddressRecognizer, "analyze", lambda *args, **kwargs: answer)
    with pytest.raises(DetectorFailed, match="MacAddressRecognizer gave a match that cannot be"):
        PresidioDetector(["MAC_ADDRESS"]).find("mac 3c:22:fb:12:34:5a")


def test_a_finder_that_crashes_switches_off_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    from presidio_analyzer.predefined_recognizers import EmailRecognizer, NhsRecognizer

    def crash(*args: object, **kwargs: object) -> None:
        raise ValueError("jane@example.com")

    searching = PresidioDetector(["EMAIL_ADDRESS", "UK_NHS", "CREDIT_CARD"])
    for kind in (EmailRecognizer, NhsRecognizer):
        monkeypatch.setattr(kind, "analyze", crash)
    text = "NHS 943 476 5919, mail jane@example.com, pay 4111 1111 1111 1111"
    with pytest.raises(DetectorFailed, match="crashed with ValueError") as caught:
        searching.find(text)
    assert [text[match.start : match.end] for match in caught.value.partial] == [
        "jane@example.com",
        "4111 1111 1111 1111",
    ]


def test_a_gate_that_crashes_is_a_failed_detector() -> None:
    def gate(text: str) -> list[tuple[int, int]]:
        raise KeyError(text)

    with pytest.raises(DetectorFailed, match=r"gate .* crashed with KeyError"):
        PresidioDetector(["EMAIL_ADDRESS"], gate=gate).find("jane@example.com")


def test_the_time_of_a_call_is_bounded() -> None:
    text = "415 555 0123 " * 20_000
    hurried = PresidioDetector(ALL, ("en", "de", "fr", "es"), budget_s=0.05)
    began = time.monotonic()
    with pytest.raises(DetectorFailed, match=r"more than 0\.05 s"):
        hurried.find(text)
    assert time.monotonic() - began < 5


def quickest(detector: PresidioDetector, text: str) -> float:
    times = []
    for _ in range(3):
        began = time.monotonic()
        detector.find(text)
        times.append(time.monotonic() - began)
    return min(times)


HOSTILE: dict[str, Callable[[int], str]] = {
    "digits": lambda n: "1" * n,
    "groups": lambda n: "12345 " * (n // 6),
    "phones": lambda n: "415 555 0123 " * (n // 13),
    "dots": lambda n: "a." * (n // 2),
    "ats": lambda n: "a@" * (n // 2),
    "mail": lambda n: "a.b-c_" * (n // 6) + "@",
    "colons": lambda n: "a0:" * (n // 3),
    "begin": lambda n: "-----BEGIN PRIVATE KEY-----\n" * (n // 28),
    "tokens": lambda n: "eyJhbGciOiJIUzI1NiJ9." * (n // 21),
    "prose": lambda n: "The quick brown fox jumps. " * (n // 27),
    "veiled": lambda n: "a\u200b@\n" * (n // 4),
    "marks": lambda n: "e\u0301" * (n // 2),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_time_is_linear(name: str) -> None:
    patient = PresidioDetector(ALL, ("en",), budget_s=60)
    short, long = quickest(patient, HOSTILE[name](10_000)), quickest(patient, HOSTILE[name](40_000))
    assert long < 12 * max(short, 0.002)


def test_what_lies_across_the_parts_of_a_long_text_is_found(detector: PresidioDetector) -> None:
    for gap in (" ", ",", "\n"):
        for place in range(8130, 8200, 7):
            text = ("x" + gap) * (place // 2) + "jane@example.com" + gap + ("y" + gap) * 3000
            assert ("EMAIL_ADDRESS", "jane@example.com") in found(detector, text), (gap, place)


@pytest.mark.parametrize("hidden", ["\u200b", "\u200d", "\u00ad", "\u2060", "\ufeff", "\u202e"])
@pytest.mark.parametrize("plain", ["jane@example.com", "4111 1111 1111 1111", "+1 212-555-0142"])
def test_invisible_characters_hide_nothing(detector: PresidioDetector, hidden: str, plain: str) -> None:
    (expected,) = found(detector, plain)
    for place in range(1, len(plain)):
        veiled = plain[:place] + hidden + plain[place:]
        (match,) = detector.find(f"first line\nmy phone, mail or card: {veiled} and more\nlast line")
        assert match.entity == expected[0]
        assert match.end - match.start == len(veiled)


def test_wide_letters_and_digits_are_read(detector: PresidioDetector) -> None:
    assert found(detector, "ｊａｎｅ＠ｅｘａｍｐｌｅ．ｃｏｍ") == [
        ("EMAIL_ADDRESS", "ｊａｎｅ＠ｅｘａｍｐｌｅ．ｃｏｍ")
    ]
    assert found(detector, "４１１１ １１１１ １１１１ １１１１") == [
        ("CREDIT_CARD", "４１１１ １１１１ １１１１ １１１１")
    ]


def test_lone_surrogates_are_no_crash(detector: PresidioDetector) -> None:
    assert found(detector, "\ud800 jane@example.com \udfff") == [("EMAIL_ADDRESS", "jane@example.com")]


def test_matches_are_in_order_and_apart(detector: PresidioDetector) -> None:
    text = " ".join(sentence.text for sentence in read()[:150])
    end = 0
    for match in detector.find(text):
        assert end <= match.start < match.end <= len(text)
        end = match.end


def spans(matches: list[Match], until: int) -> list[tuple[int, int, str]]:
    return [(match.start, match.end, match.entity) for match in matches if match.start < until]


@pytest.mark.parametrize("gap", [" ", "\n", " \u200b", ".\n\uff20 "])
def test_what_is_settled_stays_whatever_comes(detector: PresidioDetector, gap: str) -> None:
    sentences = [sentence.text for sentence in read()]
    for first in range(0, len(sentences) - 6, 24):
        text = gap.join(sentences[first : first + 6])
        whole = detector.find(text)
        for length in range(0, len(text), 41):
            settled = detector.settled(text[:length])
            assert 0 <= settled <= length
            assert spans(detector.find(text[:settled]), settled) == spans(whole, settled)


def test_a_line_without_end_settles_by_its_reach() -> None:
    mail = PresidioDetector(["EMAIL_ADDRESS"])
    text = "jane@example.com," * 2000
    settled = mail.settled(text)
    assert len(text) - 3 * mail.reach < settled < len(text)
    assert spans(mail.find(text[:settled]), settled) == spans(mail.find(text), settled)


def test_an_open_private_key_is_held_back(detector: PresidioDetector) -> None:
    body = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdef\n"
    text = f"one line\n-----BEGIN PRIVATE KEY-----\n{body * 2}"
    assert detector.settled(text) == len("one line\n")
    closed = text + "-----END PRIVATE KEY-----\nmore"
    assert detector.settled(closed) == len(closed) - len("more")


def test_a_mention_of_a_key_holds_nothing_back(detector: PresidioDetector) -> None:
    rest = "first.\nThen comes what is left of it.\nAnd of that there is more.\nAnd"
    text = f'Put "-----BEGIN PRIVATE KEY-----" {rest}'
    assert detector.settled(text) == len(text) - len("And")


@pytest.mark.parametrize("torn", [False, True])
def test_a_private_key_is_whole_or_held_back_wherever_a_stream_stops(
    detector: PresidioDetector, torn: bool
) -> None:
    lines = ["ABCDEFGHIJKLMNOPQRSTUVWXYZabcdef"] * 4
    key = "\n".join(
        ["-----BEGIN PRIVATE KEY-----", *lines] + ([] if torn else ["-----END PRIVATE KEY-----"])
    )
    text = f"One.\n{key}\n'Two' it says.\nThree -----BEGIN PRIVATE KEY----- four\n{key}\n'five'\n"
    whole = spans(detector.find(text), len(text))
    for length in range(len(text)):
        settled = detector.settled(text[:length])
        assert spans(detector.find(text[:settled]), settled) == [one for one in whole if one[0] < settled]
