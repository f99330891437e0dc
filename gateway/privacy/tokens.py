"""Recognisers of what has no spaces: addresses of mail, networks, devices and coins; and of IBANs."""

from __future__ import annotations

import re
from collections.abc import Iterator

from gateway.privacy.addresses import BEHIND_CHARS, CONTEXT_CHARS, is_code, is_numbering
from gateway.privacy.candidates import Candidate, begins_word, follows_word
from gateway.privacy.normalise import Folded
from gateway.privacy.tops import leading_top
from gateway.privacy.validators import iban_length, is_address, is_base58check, is_bech32, is_iban

_ALNUM = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789\x80"
_LOCAL = _ALNUM + b"._%+'-&~#!*$"
_DOMAIN = _ALNUM + b".-"
_AT = re.compile(rb"@|%40|&#0{0,4}64;|&#[xX]0{0,4}40;|&commat;|\\u0040")
_FILE_KINDS = frozenset(
    b"png jpg jpeg gif webp svg ico bmp pdf css js ts tsx jsx json yaml yml toml xml html htm txt csv "
    b"log exe dll".split()
)


_NAMED_AT = re.compile(rb"&(?:#0{0,4}64|#[xX]0{0,4}40|commat);\Z")
_NAMED_AT_CHARS = 10


def ends_in_at(codes: bytes, place: int) -> bool:
    """Whether the semicolon before ``place`` ends an at sign in HTML: an address goes on behind it."""
    return _NAMED_AT.search(codes[max(0, place - _NAMED_AT_CHARS) : place]) is not None


def find_emails(folded: Folded) -> Iterator[Candidate]:
    codes = folded.codes
    ats = [match.span() for match in _AT.finditer(codes)]
    for position, (at, behind) in enumerate(ats):
        low = ats[position - 1][1] if position else 0
        high = ats[position + 1][0] if position + 1 < len(ats) else len(codes)
        local = _local_part(codes, low, at)
        domain = _domain(codes, behind, high)
        if local and domain and not _is_login(codes, at - local, behind + domain):
            yield Candidate(at - local, behind + domain, "EMAIL_ADDRESS", 1.0)


def _is_login(codes: bytes, start: int, end: int) -> bool:
    """``git@host:path`` or ``scheme://user@host``"""
    if codes[max(0, start - 3) : start] == b"://":
        return True
    return codes[start : start + 4] == b"git@" and codes[end : end + 1] == b":"


_STEP = 512


def _local_part(codes: bytes, low: int, at: int) -> int:
    """The length of what may stand in front of an at sign."""
    begin = at
    while begin > low:
        chunk = codes[max(low, begin - _STEP) : begin]
        kept = len(chunk.rstrip(_LOCAL))
        begin -= len(chunk) - kept
        if kept:
            break
    return len(codes[begin:at].lstrip(b".%+'-&~#!*$"))


def _domain(codes: bytes, behind: int, high: int) -> int:
    """The length of the domain that begins at ``behind``, 0 if there is none."""
    end = behind
    while end < high:
        chunk = codes[end : min(high, end + _STEP)]
        rest = len(chunk.lstrip(_DOMAIN))
        end += len(chunk) - rest
        if rest:
            break
    labels = codes[behind:end].partition(b"..")[0].split(b".")
    glued = b""
    while len(labels) > 1 and not _is_top(labels[-1]):
        glued = labels.pop()
    if (top := leading_top(glued)) and any(code >= 65 for label in labels for code in label):
        labels.append(top)
    if len(labels) < 2 or not labels[0]:
        return 0
    return len(b".".join(labels).rstrip(b"-"))


def _is_top(label: bytes) -> bool:
    plain = label.rstrip(b"-").replace(b"\x80", b"x")
    return (
        len(plain) >= 2
        and plain.lower() not in _FILE_KINDS
        and (plain.isalpha() or plain[:4].lower() == b"xn--")
    )


_V4 = re.compile(rb"[0-9]{1,3}(?:\.[0-9]{1,3}){3}")
_V6 = re.compile(rb"[0-9A-Fa-f:]*:[0-9A-Fa-f.:]*:[0-9A-Fa-f.:]*")
_V6_CHARS = 51
_PORT = re.compile(rb"\.[0-9]{1,5}\Z")
_RANGE_END = re.compile(rb"-(?:[0-9]{1,3}\.){0,3}[0-9]{1,3}(?![0-9.])")
_RANGE_START = re.compile(rb"[0-9]{1,3}(?:\.[0-9]{1,3}){3}-\Z")
_MASK = re.compile(rb"/[0-9]{1,2}(?![0-9/])")
_DUMPED_PORT = re.compile(rb"\.[0-9]{1,5}(?![0-9.])")
_DUMP = re.compile(rb"(?:\bIP|>) \Z")


def find_addresses(folded: Folded) -> Iterator[Candidate]:
    codes = folded.codes
    for match in _V4.finditer(codes):
        start, end = match.span()
        if not _stands_alone(codes, start, end) or not is_address(match[0]):
            continue
        index = folded.index(start)
        before = folded.text[max(0, index - CONTEXT_CHARS) : index]
        behind = codes[end : end + BEHIND_CHARS].decode("latin-1")
        if not is_numbering(before, match[0].decode("ascii"), behind):
            yield Candidate(start, end, "IP_ADDRESS", 0.95)
    yield from _find_six(codes)


def _find_six(codes: bytes) -> Iterator[Candidate]:
    for match in _V6.finditer(codes):
        start = match.start()
        written = match[0].rstrip(b".")
        if written.endswith(b":") and not written.endswith(b"::"):
            written = written[:-1]
        if len(written) > _V6_CHARS or not any(code in b"0123456789" for code in written):
            continue
        after = codes[start + len(written) : start + len(written) + 1]
        if codes[max(0, start - 1) : start].isalnum() or after.isalnum():
            continue
        address = written if is_address(written) else _PORT.sub(b"", written)
        if is_address(address) and not is_code(address.decode("ascii")):
            yield Candidate(start, start + len(address), "IP_ADDRESS", 0.95)


def _stands_alone(codes: bytes, start: int, end: int) -> bool:
    """Whether four numbers are no part of a word or of more numbers, but for a mask, range or port."""
    if follows_word(codes, start) and not _RANGE_START.search(codes[max(0, start - 16) : start]):
        return False
    if not begins_word(codes, end):
        return True
    if _DUMPED_PORT.match(codes, end):
        return _DUMP.search(codes[max(0, start - 4) : start]) is not None
    return bool(_MASK.match(codes, end) or _RANGE_END.match(codes, end))


_MAC = re.compile(
    rb"[0-9A-Fa-f]{2}([:-])(?:[0-9A-Fa-f]{2}\1){4}[0-9A-Fa-f]{2}|[0-9A-Fa-f]{4}(?:\.[0-9A-Fa-f]{4}){2}"
)


def find_devices(folded: Folded) -> Iterator[Candidate]:
    codes = folded.codes
    for match in _MAC.finditer(codes):
        start, end = match.span()
        around = codes[max(0, start - 1) : start] + codes[end : end + 1]
        if b"." in match[0] and (b"." in around or match[0].replace(b".", b"").isdigit()):
            continue
        if not any(code in b":-\x80" or chr(code).isalnum() for code in around) and len(set(match[0])) > 2:
            yield Candidate(start, end, "MAC_ADDRESS", 0.95)


_COIN = re.compile(rb"0x[0-9a-fA-F]{40}|[bB][cC]1[a-zA-Z0-9]{11,71}|[13][a-km-zA-HJ-NP-Z1-9]{25,34}")


def find_coins(folded: Folded) -> Iterator[Candidate]:
    codes = folded.codes
    for match in _WORD.finditer(codes):
        written = match[0]
        if not 26 <= len(written) <= 74 or not _COIN.fullmatch(written):
            continue
        start, end = match.span()
        if written[:2] == b"0x":
            yield Candidate(start, end, "CRYPTO", 0.8)
        elif (written[:1] in b"bB" and is_bech32(written)) or (
            written[:1] in b"13" and is_base58check(written)
        ):
            yield Candidate(start, end, "CRYPTO", 1.0)


_WORD = re.compile(rb"[A-Za-z0-9\x80]+")
_IBAN = re.compile(rb"[A-Za-z]{2}[0-9]{2}")
_IBAN_REST = re.compile(rb"[A-Za-z0-9]+(?:[ -][A-Za-z0-9]+){0,12}")
IBAN_REACH = 50


def find_ibans(folded: Folded) -> Iterator[Candidate]:
    codes = folded.codes
    for match in _IBAN.finditer(codes):
        start = match.start()
        size = iban_length(match[0][:2].upper())
        if not size or codes[max(0, start - 1) : start].isalnum():
            continue
        end, compact = _collect(codes, start, size)
        if is_iban(compact) and not codes[end : end + 1].isalnum():
            yield Candidate(start, end, "IBAN_CODE", 1.0)


def _collect(codes: bytes, start: int, size: int) -> tuple[int, bytes]:
    """Where ``size`` letters and digits end that begin at ``start``, at most one separator between two."""
    compact = bytearray()
    separated = True
    for place in range(start, min(len(codes), start + IBAN_REACH)):
        code = codes[place]
        if code in _ALNUM[:-1]:
            compact.append(code)
            separated = False
            if len(compact) == size:
                return place + 1, bytes(compact.upper())
        elif separated or code not in b" -":
            break
        else:
            separated = True
    return start, b""


_URL = re.compile(rb"(?:[hH][tT][tT][pP][sS]?://|[wW][wW][wW]\.)[^\x00-\x20\"<>|{}\[\],;`\x81]{3,}")


def find_urls(folded: Folded) -> Iterator[Candidate]:
    for match in _URL.finditer(folded.codes):
        written = match[0].rstrip(b".)!?':*_")
        yield Candidate(match.start(), match.start() + len(written), "URL", 0.6)
