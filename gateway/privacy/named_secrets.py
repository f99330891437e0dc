"""Secrets that only their name gives away: ``api_key = "…"``, ``X-API-Key: …``, ``Bearer …``.

What is named so must also look random: no word, path, placeholder, UUID or number is a secret.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

from gateway.privacy.candidates import Candidate
from gateway.privacy.linear import Linear
from gateway.privacy.normalise import Folded

_VALUE = rb"[A-Za-z0-9+/_.~-]"
_LEAST_CHARS, _MOST_CHARS = 16, 512
_LEAST_HEX = 24
_NAME_BYTES, _NAME_CHARS = 64, 128
"""How much in front of a secret its name may take, with all that lies between; invisible characters count
as characters only."""
_GOES_ON = (b"@", b"(", b"\x80")

_NAMES = (
    rb"(?i:(?:api|access|secret|account|auth|private|signing|encryption|subscription|master|service|client|app|"
    rb"application|admin|deploy|shared|storage|webhook)[ _-]?key|secret|token|bearer|authorization|"
    rb"api[ -]?schlussel|cle (?:d'|d')?api|clave (?:de )?(?:la )?api|"
    rb"(?-i:(?:AKIA|ASIA)[A-Z0-9]{16}))"
)
_QUOTE = rb"(?:\\{0,3}[\"'`])?"
_GIVEN = _QUOTE + rb"\*{0,2}\]?(?::[ \t]?[Ss]tr(?:ing)?)?[ \t]{0,8}(?:[:=]=?|:=|=>|[>(|,])\*{0,2}[ \t]{0,8}"
_SAID = rb"[ \t]{1,2}(?:(?:is|was|ist|lautet|est|es):?[ \t]{1,2})?"
_SCHEME = rb"(?:(?:[Bb]earer|[Tt]oken|[Aa]pi-?[Kk]ey)[ \t]{1,2})?"
_BETWEEN = rb"(?:" + _GIVEN + rb"|" + _SAID + rb")" + _SCHEME + rb"\*{0,2}" + _QUOTE
NAMED_GATE = _NAMES + _BETWEEN + _VALUE + rb"{16}"

_RUN = Linear(_VALUE + rb"{%d,}" % _LEAST_CHARS)
_NAMED = re.compile(_NAMES + _BETWEEN + rb"\Z")
_NO_SECRET = re.compile(
    rb"(?i)(?:page|next|prev|previous|continuation|continue|sync|cursor|pagination|resume|csrf|xsrf|"
    rb"cancel|cancellation|public|device|push|contract)[ _-]?\Z"
)
"""Before "token": what marks a place in a list, or is shown to everybody."""
_OTHER = re.compile(rb"0x|eyJ[A-Za-z0-9_-]+\.")
_UUID = re.compile(rb"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_HEX = re.compile(rb"[0-9a-f]+|[0-9A-F]+")
_SPLIT = re.compile(rb"[+/_.~-]+")
_WORDS = re.compile(rb"[A-Z]?[a-z]{2,}|[A-Z]{3,}")
_REPEATED = re.compile(rb"(.)\1{4}")
_COUNTED = b"\1" * 5
_TURNS = re.compile(rb"[a-z][A-Z]")


def find_named_secrets(folded: Folded) -> Iterator[Candidate]:
    codes = folded.codes
    for start, stop in _RUN.spans(codes):
        written = codes[start:stop].rstrip(b".-~")
        if not _LEAST_CHARS <= len(written) <= _MOST_CHARS or codes[stop : stop + 1] in _GOES_ON:
            continue
        if _is_named(folded, start) and is_random(written):
            yield Candidate(start, _padded(codes, start + len(written)), "API_KEY", 0.85)


def _is_named(folded: Folded, start: int) -> bool:
    low = max(0, start - _NAME_BYTES)
    if folded.index(start) - folded.index(low) > _NAME_CHARS:
        return False
    before = folded.codes[low:start]
    named = _NAMED.search(before)
    if named is None:
        return False
    shown = named[0][:5].lower() == b"token" and _NO_SECRET.search(before, 0, named.start())
    return not shown


def _padded(codes: bytes, end: int) -> int:
    """The end of base64 with the signs that fill it up."""
    behind = codes[end : end + 2]
    return end + len(behind) - len(behind.lstrip(b"="))


def is_random(written: bytes) -> bool:
    """Whether ``written`` may have come out of a generator: by its letters and digits, and their order."""
    if _UUID.fullmatch(written) or _OTHER.match(written):
        return False
    if _REPEATED.search(written) or _counts_up(written):
        return False
    segments = _SPLIT.split(written)
    plain = b"".join(segments)
    if not any(48 <= code <= 57 for code in plain) or plain.isdigit():
        return False
    if _HEX.fullmatch(plain):
        return len(plain) >= _LEAST_HEX and _entropy(plain) >= 2.8
    if sum(len(segment) for segment in segments if _is_mixed(segment)) < _LEAST_CHARS - 4:
        return False
    worded = sum(len(word) for word in _WORDS.findall(b" ".join(segments)) if len(word) > 2)
    return worded <= 0.75 * len(plain) and _entropy(plain) >= 3.0


def _is_mixed(segment: bytes) -> bool:
    return len(_TURNS.findall(segment)) > 1 or not (segment.isalpha() or segment.isdigit())


def _counts_up(written: bytes) -> bool:
    """Whether there is ``123456`` or the like in it, written by hand."""
    steps = bytes(high - low == 1 for low, high in pairwise(written))
    return _COUNTED in steps


def _entropy(plain: bytes) -> float:
    """Bits for each character, by how often each occurs."""
    size = len(plain)
    return -sum(count / size * math.log2(count / size) for count in Counter(plain).values())
