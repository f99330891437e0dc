"""What Presidio's recognisers get wrong, put right: each repair gives the match, a better one, or none."""

from __future__ import annotations

import re
from collections.abc import Callable

from gateway.privacy.interface import Match

Repair = Callable[[str, Match], Match | None]

_BEFORE_CHARS = 48
# No version begins with a number as large as this.
_NEVER_A_VERSION = 100
# What a local part may hold by the standard, but in prompts belongs to a key, a path or a query before it.
_NO_MAILBOX = re.compile(r".*[=/|?&{}`]|^[^\w+]+", re.DOTALL)
_LOGINS = frozenset({"git", "hg", "svn"})
_VERSION_CUE = re.compile(
    r"\b(?:versions?|versión|version\w*|ver\.?|v|releases?|released|builds?|firmware|driver|kernel|assembly|package|"
    r"library|plugin|module|revision|rev|tag|bump(?:ed|s)?|changelog|fassung|section|spec|abschnitt|kapitel|"
    r"chapters?|chapitre|capítulo|clause|table|figure|up(?:grade|date)[sd]?|downgrade[sd]?|patch(?:ed)?|"
    r"install(?:ed)?|windows|chrome|sdk|runtime|apt|pip|npm|brew|yum)\b|==|§",
    re.IGNORECASE,
)
_VERSION_BEHIND = re.compile(
    r"-(?:rc|alpha|beta|dev|snapshot|r)\d*\b|\.(?:tar|t?gz|zip|whl|jar|deb|rpm|exe|msi)\b"
)
_NETWORK_CUE = re.compile(
    r"\b(?:ip|ipv4|ips|host(?:name|s)?|addr(?:ess)?|adresse|dirección|at|on|via|deployed to|"
    r"connect(?:ed)? to|client|peer|ping|src|dst|node|gateway|dns|resolver|listen(?:ing)?|from)\b|@$|://$",
    re.IGNORECASE,
)
_SSN_CUE = re.compile(r"\b(?:ssns?|social|sozialversicherung\w*|s\.s\.n)\b", re.IGNORECASE)
# What counts or names something else, with at most a word or a sign between it and the number.
_OTHER_NUMBER = re.compile(
    r"\b(?:orders?|case|ticket|invoice|ref(?:erence)?|part|article|account|acct|serial|sku|lot|batch|contract|policy|"
    r"tracking|parcel|client|customer|order|commande|dossier|facture|contrat|kunden\w*|bestell\w*|vertrag\w*|"
    r"rechnung\w*|aktenzeichen|steuer\w*|charge|artikel\w*|pedido|expediente|factura|código|contrato|id|isbn|"
    r"version|build|drawing|siret|siren)\b[ \t]*(?:no|nr|n°|number|num|code|id)?[ \t.:#°=-]{0,4}$",
    re.IGNORECASE,
)
_DATE = re.compile(r"\d{1,2}([./-])\d{1,2}\1(?:\d{4}|\d\d)|\d{4}([./-])\d{1,2}\2\d{1,2}")


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
    """An IP address, unless what stands before it says that it is the number of a version or a section."""
    if ":" in text[match.start : match.end]:
        return match
    if int(text[match.start : match.end].partition(".")[0]) >= _NEVER_A_VERSION:
        return match
    before = text[max(0, match.start - _BEFORE_CHARS) : match.start]
    if _VERSION_BEHIND.match(text, match.end):
        return None
    before = before[before.rfind("\n") + 1 :]
    version, network = _last(_VERSION_CUE, before), _last(_NETWORK_CUE, before)
    return match if network >= version else None


def phone_number(text: str, match: Match) -> Match | None:
    """A phone number, unless it is written like a date, is a part of a longer number with dashes, or is
    called the number of something else."""
    before = text[max(0, match.start - _BEFORE_CHARS) : match.start]
    if _OTHER_NUMBER.search(before) and text[match.start] not in "+(":
        return None
    if _DATE.fullmatch(text[match.start : match.end]) or _in_longer_number(text, match):
        return None
    return match


def issued_ssn(text: str, match: Match) -> Match | None:
    """A social security number, unless its area is never issued (900 and above), it is a part of a longer
    number with dashes, or it has blanks or dots in it and nothing says what it is."""
    written = text[match.start : match.end]
    if written[0] == "9" or _in_longer_number(text, match):
        return None
    before = text[max(0, match.start - _BEFORE_CHARS) : match.start]
    return match if "-" in written or _SSN_CUE.search(before) else None


REPAIRS: dict[str, Repair] = {
    "EMAIL_ADDRESS": mailbox,
    "IP_ADDRESS": address_not_version,
    "PHONE_NUMBER": phone_number,
    "US_SSN": issued_ssn,
}


def _in_longer_number(text: str, match: Match) -> bool:
    before, behind = text[max(0, match.start - 2) : match.start], text[match.end : match.end + 2]
    return (before[:1].isdigit() and before[1:] == "-") or (behind[:1] == "-" and behind[1:].isdigit())


def _last(cue: re.Pattern[str], before: str) -> int:
    return max((found.end() for found in cue.finditer(before)), default=0)
