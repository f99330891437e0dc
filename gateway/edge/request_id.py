"""Request ids: the client's own where it is harmless, else ours."""

from __future__ import annotations

import re
import secrets
from itertools import count

_ACCEPTED = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_BLOCK = 1 << 32
_process = secrets.token_hex(12)
_numbers = count(secrets.randbelow(_BLOCK))


def accept_request_id(value: bytes) -> str | None:
    """``value`` as it came, None if it may not be echoed and logged."""
    return value.decode("ascii") if _ACCEPTED.fullmatch(value) else None


def new_request_id() -> str:
    """``req_`` and 32 hexadecimal digits: 24 of this process, drawn at random, then a counter."""
    return f"req_{_process}{next(_numbers) % _BLOCK:08x}"
