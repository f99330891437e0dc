"""Recognisers of secrets: keys by how their vendors begin them or by name, signed tokens, private keys."""

from __future__ import annotations

import base64
import binascii
import re
from bisect import bisect_left
from collections.abc import Iterator

from gateway.privacy.candidates import Candidate
from gateway.privacy.linear import Linear
from gateway.privacy.named_secrets import NAMED_GATE, find_named_secrets
from gateway.privacy.normalise import Folded

_ISSUED_GATE = (
    rb"sk-[A-Za-z0-9_-]{16}|(?:AKIA|ASIA)[A-Z0-9]{16}|gh[pousr]_[A-Za-z0-9]{16}|github_pat_|AIza[A-Za-z0-9_-]{16}|"
    rb"xox[abeoprs]-|xapp-|(?:[sr]k|whsec)_|glpat-|hf_[A-Za-z0-9]{16}|npm_[A-Za-z0-9]{16}|pypi-Ag|"
    rb"(?:SK|AC)[0-9a-f]{32}|SG\.[A-Za-z0-9_-]{16}|(?:gsk|xai)[_-][A-Za-z0-9]{16}"
)
API_KEY_GATE = _ISSUED_GATE + rb"|" + NAMED_GATE
_KEYS = re.compile(
    rb"sk-(?:ant-)?[A-Za-z0-9_-]{20,}|(?:AKIA|ASIA)[A-Z0-9]{16}|gh[pousr]_[A-Za-z0-9]{36,}|"
    rb"github_pat_[A-Za-z0-9_]{22,}|AIza[A-Za-z0-9_-]{35}|xox[abeoprs]-[A-Za-z0-9-]{10,}|xapp-[A-Za-z0-9-]{20,}|"
    rb"[sr]k_(?:live|test)_[A-Za-z0-9]{16,}|whsec_[A-Za-z0-9+/=]{20,}|glpat-[A-Za-z0-9_.-]{20,}|"
    rb"hf_[A-Za-z0-9]{30,}|npm_[A-Za-z0-9]{36}|pypi-Ag[A-Za-z0-9_-]{30,}|(?:SK|AC)[0-9a-f]{32}|"
    rb"SG\.[A-Za-z0-9_-]{16,32}\.[A-Za-z0-9_-]{16,64}|(?:gsk|xai)[_-][A-Za-z0-9]{30,}"
)
_START = Linear(
    rb"sk-|AKIA|ASIA|gh[pousr]_|github_pat_|AIza|xox[abeoprs]-|xapp-|[sr]k_|whsec_|glpat-|hf_|npm_|pypi-|SK|AC|SG\.|gsk|xai"
)


def find_api_keys(folded: Folded) -> Iterator[Candidate]:
    yield from _find_issued(folded)
    yield from find_named_secrets(folded)


def _find_issued(folded: Folded) -> Iterator[Candidate]:
    codes = folded.codes
    behind = 0
    for start, _ in _START.spans(codes):
        if start < behind or codes[max(0, start - 1) : start].isalnum():
            continue
        match = _KEYS.match(codes, start)
        if match is None:
            continue
        written = match[0].rstrip(b".-=")
        end = behind = start + len(written)
        if any(48 <= code <= 57 for code in written) and not codes[end : end + 1].isalnum():
            yield Candidate(start, end, "API_KEY", 1.0)


JWT_GATE = rb"eyJ[A-Za-z0-9_-]{8}"
_JWT = Linear(rb"eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{2,}(?:\.[A-Za-z0-9_-]*){0,3}")


def find_jwts(folded: Folded) -> Iterator[Candidate]:
    """Signed (three parts) and encrypted ones (five)."""
    for start, end in _JWT.spans(folded.codes):
        written = folded.codes[start:end].rstrip(b".")
        header = written.partition(b".")[0][:4096]
        try:
            decoded = base64.urlsafe_b64decode(header + b"=" * (-len(header) % 4))
        except binascii.Error:
            continue
        if b'"' in decoded:
            yield Candidate(start, start + len(written), "JWT", 1.0)


PEM_GATE = rb"-----BEGIN"
PEM_CAP = 16_384
"""How many characters behind its first line the last line of a private key is looked for."""
_HEADER = re.compile(rb"-----BEGIN ([A-Z0-9 ]{0,24})PRIVATE KEY(?: BLOCK)?-----")
_FOOTER = re.compile(rb"-----END [A-Z0-9 ]{0,24}PRIVATE KEY(?: BLOCK)?-----")
_LINES = re.compile(rb"(?:(?:\s|\\[nr]){1,8}[A-Za-z0-9+/=]{16,})+")


_BODY = re.compile(rb"(?:[\s\"'+,>#*|]|\\[nr]){0,16}(?:[A-Za-z0-9+/=]{16}|[A-Z][A-Za-z-]{3,20}:)")
_BODY_REACH = 64
_PARTIAL_HEADER = re.compile(rb"-----BEGIN[A-Z0-9 ]{0,44}-{0,5}\Z")


def find_private_keys(folded: Folded) -> Iterator[Candidate]:
    """From the first line to the last, or over the lines of base64 where that is missing."""
    for start, end, _ in _private_keys(folded.codes):
        if end:
            yield Candidate(start, end, "PRIVATE_KEY", 1.0)


def _private_keys(codes: bytes) -> Iterator[tuple[int, int, bool]]:
    """Where private keys begin and end, and whether that is certain whatever follows ``codes``.

    The end is 0 as long as there is a first line alone.
    """
    footers = [match.span() for match in _FOOTER.finditer(codes)]
    for header in _HEADER.finditer(codes):
        start, body = header.span()
        if not _BODY.match(codes, body):
            if len(codes) < body + _BODY_REACH:
                yield start, 0, False
            continue
        position = bisect_left(footers, (body, 0))
        if position < len(footers) and footers[position][1] <= body + PEM_CAP:
            yield start, footers[position][1], True
        else:
            lines = _LINES.match(codes, body, body + PEM_CAP)
            yield start, lines.end() if lines else body, len(codes) >= body + PEM_CAP


def before_private_keys(codes: bytes, place: int) -> int:
    """The last place up to ``place`` that no private key goes across, whatever follows ``codes``."""
    spans = list(_private_keys(codes))
    partial = codes.rfind(b"-----BEGIN", max(0, len(codes) - 64))
    if partial >= 0 and _PARTIAL_HEADER.match(codes, partial):
        spans.append((partial, len(codes), False))
    for start, end, certain in reversed(spans):
        if start < place and (end > place or not certain):
            place = start
    return place
