"""How long a provider asks to be left alone, in every spelling."""

from __future__ import annotations

import time
from email.utils import formatdate
from typing import Any

import pytest

from gateway.providers.hints import hint_s


def hint(reported: dict[str, Any] | None = None, /, **headers: str) -> float | None:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return hint_s(lambda name: named.get(name), reported or {})


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry_after": "2"}, 2),
        ({"retry_after": "0"}, 0),
        ({"retry_after": "1.5"}, 1.5),
        ({"retry_after_ms": "250"}, 0.25),
        ({"x_ms_retry_after_ms": "1500"}, 1.5),
        ({"retry_after_ms": "100", "retry_after": "9"}, 0.1),
        ({"retry_after_ms": "soon", "retry_after": "9"}, 9),
    ],
)
def test_headers(headers: dict[str, str], seconds: float) -> None:
    assert hint(**headers) == seconds


@pytest.mark.parametrize(
    "value", ["-1", "NaN", "1e309", "inf", "soon", "", "86401", "9" * 500, "Tue", "12:30", "٣"]
)
def test_nonsense_is_no_hint(value: str) -> None:
    assert hint(retry_after=value) is None
    assert hint(retry_after_ms=value) in (None, 86.401)


def test_a_date() -> None:
    assert hint(retry_after=formatdate(time.time() + 30, usegmt=True)) == pytest.approx(30, abs=2)
    assert hint(retry_after=formatdate(time.time() - 30, usegmt=True)) is None


def test_googles_retry_info() -> None:
    details = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34s"}]
    assert hint({"details": details}) == 34
    assert hint({"details": [{"retryDelay": "0.5s"}]}) == 0.5
    assert hint({"details": [7, {"retryDelay": 5}, {"retryDelay": "soon"}]}) is None


@pytest.mark.parametrize(
    ("message", "seconds"),
    [
        ("Rate limited, reset after 2m 13s.", 133),
        ("Please try again in 6m0s.", 360),
        ("Please retry in 850ms", 0.85),
        ("Quota exceeded. Try again in 1h", 3600),
        ("Limit 10 requests per 30s", None),
        ("try again later", None),
        ("reset after 999999d", None),
        (7, None),
    ],
)
def test_text(message: Any, seconds: float | None) -> None:
    assert hint({"message": message}) == seconds
