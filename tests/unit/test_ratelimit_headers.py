"""The rate limit headers are in OpenAI's names and forms, and of the tightest limit of their kind."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.admission.ratelimit_headers import ratelimit_headers, reset
from gateway.storage.interface import RateClaim, RateState

UNITS = {"ms": 1, "s": 1000, "m": 60_000}


def read_ms(text: str) -> float:
    """As clients read it, which split it into numbers and units."""
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|s|m)", text)
    assert "".join(number + unit for number, unit in parts) == text
    return sum(float(number) * UNITS[unit] for number, unit in parts)


@pytest.mark.parametrize(
    ("us", "text"),
    [
        (0, b"0ms"),
        (1, b"1ms"),
        (12_000, b"12ms"),
        (12_001, b"13ms"),
        (999_001, b"1s"),
        (1_000_000, b"1s"),
        (1_500_000, b"1.5s"),
        (1_050_000, b"1.05s"),
        (59_999_000, b"59.999s"),
        (60_000_000, b"1m0s"),
        (61_200_000, b"1m1.2s"),
        (360_000_000, b"6m0s"),
        (-5, b"0ms"),
    ],
)
def test_a_time_as_openai_writes_it(us: int, text: bytes) -> None:
    assert reset(us) == text


@given(st.integers(0, 10**10))
def test_a_time_is_never_too_short(us: int) -> None:
    assert 0 <= read_ms(reset(us).decode()) - us / 1000 < 1.001


def test_six_headers_of_the_tightest() -> None:
    rates = [
        (RateClaim("t.rpm", 100, 1), RateState(50, 30_000_000)),
        (RateClaim("k:ci.rpm", 10, 1), RateState(9, 6_000_000)),
        (RateClaim("t.tpm", 1000, 40), RateState(7, 59_580_000)),
        (RateClaim("m:gpt.tpm", 5000, 40), RateState(4960, 480_000)),
    ]
    assert dict(ratelimit_headers(rates)) == {
        b"x-ratelimit-limit-requests": b"10",
        b"x-ratelimit-remaining-requests": b"9",
        b"x-ratelimit-reset-requests": b"6s",
        b"x-ratelimit-limit-tokens": b"1000",
        b"x-ratelimit-remaining-tokens": b"7",
        b"x-ratelimit-reset-tokens": b"59.58s",
    }


def test_only_of_limits_that_apply() -> None:
    assert ratelimit_headers([]) == []
    headers = ratelimit_headers([(RateClaim("t.tpm", 5, 1), RateState(-3, 1))])
    assert [name for name, _ in headers] == [
        b"x-ratelimit-limit-tokens",
        b"x-ratelimit-remaining-tokens",
        b"x-ratelimit-reset-tokens",
    ]
    assert headers[1][1] == b"0", "what settled above its reserve is no negative number for clients"
