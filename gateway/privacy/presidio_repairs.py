"""What Presidio's recognisers get wrong, put right: each repair gives the match, a better one, or none."""

from __future__ import annotations

import re
from collections.abc import Callable

from gateway.privacy.addresses import BEHIND_CHARS, CONTEXT_CHARS, is_code, is_numbering
from gateway.privacy.interface import Match
from gateway.privacy.labels import labelled_otherwise, named_phone
from gateway.privacy.normalise import fold
from gateway.privacy.numbers import is_written_ssn
from gateway.privacy.validators import is_card

Repair = Callable[[str, Match], Match | None]

_BEFORE_CHARS = 48
# What a local part may hold by the standard, but in prompts belongs to a key, a path or a query before it.
_NO_MAILBOX = re.compile(r".*[=/|?&{}`]|^[^\w+]+", re.DOTALL)
_LOGINS = frozenset({"git", "hg", "svn"})
SSN_CUE = re.compile(r"\b(?:ssns?|social|sozialversicherung\w*|s\.s\.n)\b", re.IGNORECASE)
_EXTENSION = re.compile(r"[\s,;]*[^\W\d].*", re.DOTALL)
_LIST = re.compile(r"(?:\d[ ]){6}")
_EQUAL = re.compile(r"\d\d(?: \d\d){4,}|\d{3}(?: \d{3}){3,}|\d{4}(?: \d{4}){3,}")
_THOUSANDS = re.compile(r"\d{1,3}(?:[. ]\d{3})+")
_SUM = re.compile(r",\d\d(?!\d)")
_HEX_PAIRS = re.compile(r"[0-9A-Fa-f]{2}")
_CARD_CUE = re.compile(r"\b(?:cards?|credit|debit|visa|mastercard|amex|pan|kreditkarte|carte|tarjeta)")
_LEAST_DIGITS, _LEAST_GROUPED, _MANY_GROUPS = 7, 9, 7
_ONE_BEFORE = re.compile(r"(?:(?:\A|[^\d ./()-])[ (]{0,2}\d{1,4}|\d{4} \d{4}) \Z")
_SHORT_CARD = 13
_DATE = re.compile(
    r"\d{1,2}([./-])\d{1,2}\1(?:\d{4}|\d\d)(?!\d|\1)|\d{4}([./-])\d{1,2}\2\d{1,2}(?!\d|\2)|\d{5}-\d{4}\Z"
)


def mailbox(text: str, match: Match) -> Match | None:
    """An e-mail address without the key, path or query in front; none for a login in a URL or of git."""
    address = text[match.start : match.end]
    at = address.rindex("@")
    noise = _NO_MAILBOX.match(address[:at])
    cut = noise.end() if noise else 0
    before = text[max(0, match.start - 3) : match.start] + address[:cut]
    if cut >= at or before.endswith("://"):
        return None
    if address[cut:at] in _LOGINS and text[match.end : match.end + 1] in (":", "/"):
        return None
    return Match(match.start + cut, match.end, match.entity, match.score)


def address_not_version(text: str, match: Match) -> Match | None:
    """An IP address without mask and zone, unless it is by its surroundings the number of a version."""
    written = re.split("[/%]", text[match.start : match.end], maxsplit=1)[0]
    end = match.start + len(written)
    if ":" not in written:
        before = text[max(0, match.start - CONTEXT_CHARS) : match.start]
        numbers = fold(written).codes.decode("latin-1")
        if is_numbering(before, numbers, text[end : end + BEHIND_CHARS]):
            return None
    elif is_code(written) or not any(letter.isdigit() for letter in written):
        return None
    return Match(match.start, end, match.entity, match.score)


def phone_number(text: str, match: Match) -> Match | None:
    """A phone number without its extension, unless it is written like a date or a sum, is a part of a
    longer number with dashes, or is called the number of something else."""
    before = text[max(0, match.start - _BEFORE_CHARS) : match.start].lower()
    if text[match.start] not in "+(%" and labelled_otherwise(before, phone=True):
        return None
    if text[match.start] == "+" and text[match.start - 1 : match.start].isalnum():
        return None
    encoded_plus = len("%2B") if text[match.start] == "%" else 0
    extension = _EXTENSION.search(text, match.start + encoded_plus, match.end)
    whole = Match(match.start, extension.start() if extension else match.end, match.entity, match.score)
    written = text[whole.start : whole.end]
    digits = [letter for letter in written if letter.isdigit()]
    if len(digits) < _LEAST_DIGITS or digits[:3] == ["0"] * 3:
        return None
    if not named_phone(before) and not _is_grouped(before, written):
        return None
    if _THOUSANDS.fullmatch(written) and _SUM.match(text, whole.end):
        return None
    if _DATE.match(written) or _in_longer_number(text, whole):
        return None
    return whole


def device(text: str, match: Match) -> Match | None:
    """The address of a device, unless it is a part of a longer row of such pairs, as fingerprints are."""
    before, behind = text[max(0, match.start - 3) : match.start], text[match.end : match.end + 3]
    longer = (before[2:] in (":", "-") and _HEX_PAIRS.fullmatch(before[:2])) or (
        behind[:1] in (":", "-") and _HEX_PAIRS.fullmatch(behind[1:])
    )
    return None if longer else match


def issued_card(text: str, match: Match) -> Match | None:
    """A card by its issuer's range and length; 13 digits without a break may be an article's."""
    written = text[match.start : match.end]
    digits = bytes(code for code in fold(written).codes if 48 <= code < 58)
    if not is_card(digits):
        return None
    before = text[max(0, match.start - _BEFORE_CHARS) : match.start].lower()
    if len(written) != len(digits) or _CARD_CUE.search(before):
        return match
    return None if len(digits) == _SHORT_CARD or labelled_otherwise(before) else match


def issued_ssn(text: str, match: Match) -> Match | None:
    """A social security number, unless its area is never issued (900 and above), it is a part of a longer
    number with dashes, or it has blanks or dots in it and nothing says that it is somebody's number."""
    written = text[match.start : match.end]
    if written[0] == "9" or _in_longer_number(text, match):
        return None
    before = text[max(0, match.start - _BEFORE_CHARS) : match.start]
    if "-" in written or SSN_CUE.search(before):
        return match
    numbered = is_written_ssn(written.encode("ascii", "replace")) and named_phone(
        before.lower(), close=True
    )
    return match if numbered else None


REPAIRS: dict[str, Repair] = {
    "CREDIT_CARD": issued_card,
    "EMAIL_ADDRESS": mailbox,
    "IP_ADDRESS": address_not_version,
    "MAC_ADDRESS": device,
    "PHONE_NUMBER": phone_number,
    "US_SSN": issued_ssn,
}


def _in_longer_number(text: str, match: Match) -> bool:
    before, behind = text[max(0, match.start - 2) : match.start], text[match.end : match.end + 2]
    return (before[:1].isdigit() and before[1:] == "-") or (behind[:1] == "-" and behind[1:].isdigit())


def _is_grouped(before: str, written: str) -> bool:
    """Whether a number that nobody calls a phone has the form of one, and is no list, no part of more."""
    if _LIST.match(written) or _ascends(written):
        return False
    groups = re.findall(r"\d+", written)
    if written[0] != "0" or len(groups) == 1:
        return True
    fitting = len(groups[0]) > 1 and len(groups) < _MANY_GROUPS and sum(map(len, groups)) >= _LEAST_GROUPED
    return fitting and not _ONE_BEFORE.search(before)


def _ascends(written: str) -> bool:
    """Four groups or more of the same length (pairs: five), each larger than the one before: a list."""
    pairs = written.split(" ")
    return _EQUAL.fullmatch(written) is not None and pairs == sorted(set(pairs))
