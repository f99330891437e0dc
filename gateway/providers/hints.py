"""How long a provider asks to be left alone: in all the ways in which they say it."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import Any

LONGEST_S = 86_400.0

_HEADERS = (("retry-after-ms", 1e-3), ("x-ms-retry-after-ms", 1e-3), ("retry-after", 1.0))
_NUMBER = re.compile(r"[0-9]{1,12}(\.[0-9]{1,9})?")
_DELAY = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,9})?)s")
_SPAN = r"[0-9]{1,6}(?:\.[0-9]{1,6})?\s?(?:ms|[smhd])(?![a-z])\s?"
_IN_TEXT = re.compile(rf"(?:reset|retry|try again|available)\D{{0,20}}?((?:{_SPAN})+)", re.I)
_PART = re.compile(r"([0-9.]+)\s?(ms|[smhd])", re.I)
_UNIT_S = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


def hint_s(header: Callable[[str], str | None], reported: dict[str, Any]) -> float | None:
    """Seconds from now; None where no usable time is named.

    ``reported``: the error object. Read are ``retry-after-ms``, ``x-ms-retry-after-ms``, ``retry-after``
    (seconds or a date), Google's ``RetryInfo.retryDelay``, and text such as "reset after 2m 13s".
    """
    for name, unit_s in _HEADERS:
        value = header(name)
        found = None if value is None else _header_s(value.strip(), unit_s)
        if found is not None:
            return found
    return _delay_s(reported.get("details")) or _text_s(reported.get("message"))


def _header_s(value: str, unit_s: float) -> float | None:
    if _NUMBER.fullmatch(value):
        return _usable(float(value) * unit_s)
    if unit_s != 1.0 or not value[:1].isalpha():
        return None
    try:
        at_s = parsedate_to_datetime(value).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
    return _usable(at_s - time.time())


def _delay_s(details: Any) -> float | None:
    for detail in details if isinstance(details, list) else ():
        delay = detail.get("retryDelay") if isinstance(detail, dict) else None
        if isinstance(delay, str) and (found := _DELAY.fullmatch(delay)):
            return _usable(float(found[1]))
    return None


def _text_s(message: Any) -> float | None:
    found = _IN_TEXT.search(message[:1000]) if isinstance(message, str) else None
    if found is None:
        return None
    return _usable(sum(float(number) * _UNIT_S[unit.lower()] for number, unit in _PART.findall(found[1])))


def _usable(seconds: float) -> float | None:
    return seconds if math.isfinite(seconds) and 0 <= seconds <= LONGEST_S else None
