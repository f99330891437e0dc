"""Made-up personal data, ways to hide it, and texts that are hard to cut."""

from __future__ import annotations

import random
from dataclasses import replace
from functools import cache

from hypothesis import strategies as st

from gateway.privacy.detect_fast import SUPPORTED, DetectionPolicy, FastDetector
from gateway.privacy.detectors import build_detector
from gateway.privacy.interface import Detector, Match
from gateway.privacy.placeholders import AnswerPlaceholders, Placeholders, substitute
from gateway.privacy.policy import Action, Actions, DetectorSpec

PEM = (
    "-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEAtestTESTtestTESTtest1234\n"
    "abcdEFGHijklMNOPqrstUVWXyz0123456789+/==\n-----END RSA PRIVATE KEY-----"
)
EXAMPLES: dict[str, tuple[str, ...]] = {
    "EMAIL_ADDRESS": ("john.doe@example.com", "o'neil+tag@mail.example.co.uk", "jürgen@müller.de"),
    "PHONE_NUMBER": (
        "(415) 555-2671",
        "+49 89 12345678",
        "415-555-2671",
        "+1 (415) 555-2671",
        "+442071838750",
    ),
    "CREDIT_CARD": ("4111 1111 1111 1111", "5500-0000-0000-0004", "378282246310005", "3782 822463 10005"),
    "IBAN_CODE": (
        "DE89 3704 0044 0532 0130 00",
        "GB29NWBK60161331926819",
        "MT84 MALT 0110 0001 2345 MTLC AST0 01S",
    ),
    "IP_ADDRESS": ("203.0.113.77", "2001:db8::8a2e:370:7334"),
    "US_SSN": ("536-22-1234",),
    "US_ITIN": ("912-70-1234",),
    "MAC_ADDRESS": ("3c:22:fb:12:34:5a", "3C-22-FB-12-34-5A", "3c22.fb12.345a"),
    "CRYPTO": (
        "1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN2",
        "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4",
        "0x52908400098527886E0F7030069857D2E4169EE7",
    ),
    "API_KEY": (
        "sk-proj-Ab1Cd2Ef3Gh4Ij5Kl6Mn7Op8",
        "sk-ant-api03-Ab1Cd2Ef3Gh4Ij5Kl6Mn7Op8",
        "AKIA" + "IOSFODNN7EXAMPL3",
        "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8",
        "github_pat_11ABCDEFG0abcdefghijkl_mnopqr",
        "AIza" + "SyA1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q",
        "xoxb-" + "123456789012-abcdefGHIJKL",
        "sk_live_" + "4eC39HqLyjWDarjtT1zdp7dc",
        "rk_live_" + "4eC39HqLyjWDarjtT1zdp7dc",
        "glpat-" + "a1B2c3D4e5F6g7H8i9J0",
        "hf_" + "aBcDeFgHiJkLmNoPqRsTuVwXyZ12345678",
        "npm_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8",
        "pypi-AgEIcHlwaS5vcmcCJGExYjJjM2Q0LWU1ZjYtZzdoOC1pOWowazFsMm0zbjQ",
        "SK" + "0123456789abcdef0123456789abcdef",
        "SG." + "a1B2c3D4e5F6g7H8i9J0k1.l2M3n4O5p6Q7r8S9t0U1v2W3x4Y5z6",
    ),
    "JWT": ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NSJ9.dBjftJeZ4CVP-mB92K27uhbUJU1p1r",),
    "PRIVATE_KEY": (PEM,),
    "DENY_LIST": ("Project Blue Moon", "Zürich-7", "機密情報"),
    "URL": ("https://example.org/a?b=c",),
}
PLAIN = tuple(value for entity, values in EXAMPLES.items() if entity != "URL" for value in values)

INVISIBLE = {
    "ZWSP": "\u200b",
    "ZWNJ": "\u200c",
    "ZWJ": "\u200d",
    "SHY": "\u00ad",
    "WJ": "\u2060",
    "BOM": "\ufeff",
    "RLO": "\u202e",
    "LRI": "\u2066",
    "PDI": "\u2069",
    "TAG": "\U000e0041",
    "VS16": "\ufe0f",
    "CGJ": "\u034f",
    "acute": "\u0301",
}


@cache
def detector(*, url: bool = False) -> FastDetector:
    entities = SUPPORTED - {"DENY_LIST"} - (frozenset() if url else {"URL"})
    return FastDetector(DetectionPolicy(entities, deny=EXAMPLES["DENY_LIST"]))


_STAFF = """[{"name": "staff", "supported_entity": "EMPLOYEE_ID",
    "patterns": [{"name": "id", "regex": "EMP-[0-9]{6}", "score": 0.9}]}]"""


@cache
def engines() -> dict[str, Detector]:
    """Each way to build a detector, by its name: ``own`` has a recogniser of the tenant's beside it."""
    entities = tuple(sorted(SUPPORTED - {"DENY_LIST", "URL"}))
    spec = DetectorSpec("presidio", entities, languages=("en", "de"), deny=EXAMPLES["DENY_LIST"])
    fast = replace(spec, engine="fast", languages=(), phone_regions=("US", "GB", "DE", "FR", "IN"))
    own = (*entities, "EMPLOYEE_ID")
    return {
        "fast": detector(),
        "presidio": build_detector(spec),
        "joined": build_detector(replace(fast, entities=own, recognisers=_STAFF)),
        "presidio-own": build_detector(replace(spec, entities=own, recognisers=_STAFF)),
    }


KEY = b"k" * 32


def holding(default: Action = "restore", **actions: Action) -> Placeholders:
    """Of a request, ``actions`` by entity."""
    return Placeholders(Actions(default, actions), KEY)


def whole(
    text: str, placeholders: Placeholders, answer: AnswerPlaceholders, by: Detector | None = None
) -> str:
    """What a stream must come to, by the whole text."""
    matches = answer.but_own(text, (by or detector()).find(text))
    return placeholders.restore(substitute(text, matches, answer.token))


def named(matches: list[Match], text: str) -> list[tuple[str, str]]:
    return [(text[match.start : match.end], match.entity) for match in matches]


def cut(text: str, seed: int, most: int = 7) -> list[str]:
    """``text`` in pieces of up to ``most`` characters, empty ones among them."""
    chance = random.Random(seed)
    pieces, place = [], 0
    while place < len(text):
        size = chance.randint(0, most)
        pieces.append(text[place : place + size])
        place += size
    return pieces


_PARTS = tuple(value[: len(value) // 2] for value in PLAIN) + tuple(
    value[len(value) // 2 :] for value in PLAIN
)
_WORDS = (
    "the quick brown fox",
    "order #",
    "call me",
    "ssn",
    "card:",
    "IBAN",
    "GB29",
    "in 42 ab12",
    "A1 B2",
    "-----BEGIN ",
    "PRIVATE KEY-----",
    "-----END PRIVATE KEY-----",
    "[EMAIL_ADDRESS_1]",
    "[EMAIL_ADDRESS_",
    "[LITERAL_1]",
    "api_key",
    "next_page_",
    "token: ",
    '"secret": "',
    "Authorization: Bearer ",
    "kT9xQ2mLr7VbZ4nW8sYp3DcF",
    "442ce11a9a3eb50eb768626afdf850c6",
    "536 22 1234",
    "1) 503-555-0107",
    " / 06 12 34 56 78",
    "project ",
    "project blue ",
    "12 34 56 78 ",
    "version ",
    "from ",
    "my number is ",
    "order no. ",
    "n° de ",
    "1.2.3.4",
    "45.33.12.9",
    "10.0.0.5",
    "-rc1",
    "/24",
    ".443",
    "2001:db8::9",
    "a1::b2",
    "%2B14155552671",
    "x123",
    "0171 3920 012",
    "07700900461",
    "0049 ",
    "changelog\n",
    "write to info&#64;",
    "jo&#x40;",
    "&#0064;",
    "&#X0040;",
    "jo&commat;",
    "&comm",
    "&#6",
    "4;",
    "jo%40",
    "jo\\u0040",
    "other-corp.com now",
    "corp.com-thanks",
    "corp.co.uk_x",
    "corp.com2",
    "sk-proj-Ab1Cd2Ef3Gh4Ij5Kl6Mn7Op8ABCD",
    "EMP-123456",
    "4111  1111  ",
    "212\t555\t",
    "call 0142",
    "4111 1111 ",
    "1111 1111",
    "555",
    "(",
    ")",
    "+",
    "mañana",
    "日本語",
    "привет",
    "\ud800",
)
_GLUE = (
    *" \n\t.,-/@:;_[](){}\"'\\=%#+0123456789aZ",
    *INVISIBLE.values(),
    "＠",
    "．",
    "１",
    "①",
    "²",
    "⑩",
    "ﷺ",
    "😀",
    "…",
)

nasty = st.lists(
    st.one_of(
        st.sampled_from(PLAIN),
        st.sampled_from(_PARTS),
        st.sampled_from(_WORDS),
        st.sampled_from(_GLUE),
        st.sampled_from((" ", "\n", ". ")),
        st.text(alphabet="0123456789 -.()+", max_size=30),
        st.text(max_size=6),
    ),
    max_size=14,
).map("".join)
