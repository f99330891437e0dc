"""Keys and tokens that Presidio does not know: API keys as the fast detector finds them, and recognisers in
Presidio's own format."""

from __future__ import annotations

from functools import cache

from gateway.privacy.credentials import find_api_keys
from gateway.privacy.interface import Match
from gateway.privacy.normalise import fold
from gateway.privacy.presidio_finders import Finder, own_finder
from gateway.privacy.recognisers import OwnRecogniser, parse_recognisers

_JWT = r"\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]*[A-Za-z0-9_]"
_HEADER = r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----"
_BODY = r"[A-Za-z0-9+/=\s\\:,.()-]*?"
_FOOTER = r"-----END (?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----"
# A key without its end: what was pasted of it.
_TORN = r"(?:(?:\s|\\[rn])*[A-Za-z0-9+/=]{16,})+(?:(?:\s|\\[rn])+[A-Za-z0-9+/]{1,15}={1,2})?"
_PRIVATE_KEYS = (f"{_HEADER}{_BODY}{_FOOTER}", f"{_HEADER}{_TORN}")

MULTI_LINE_ENTITIES = frozenset({"PRIVATE_KEY"})


def secret_finders(asked: frozenset[str]) -> list[Finder]:
    """One finder for each of the secrets among ``asked``."""
    found = [
        own_finder(recogniser, "en", multi_line=recogniser.entity in MULTI_LINE_ENTITIES)
        for recogniser in _recognisers()
        if recogniser.entity in asked
    ]
    if "API_KEY" in asked:
        found.append(Finder("API_KEY", frozenset({"API_KEY"}), _api_keys, gated=False))
    return found


def _api_keys(text: str) -> list[Match]:
    folded = fold(text)
    return [
        Match(*folded.span(found.start, found.end), found.entity, found.score)
        for found in find_api_keys(folded)
    ]


@cache
def _recognisers() -> tuple[OwnRecogniser, ...]:
    """Compiled once."""
    found = {"JWT": (_JWT,), "PRIVATE_KEY": _PRIVATE_KEYS}
    return parse_recognisers(
        [
            {
                "name": entity,
                "supported_entity": entity,
                "global_regex_flags": 16,
                "patterns": [{"name": entity, "regex": regex, "score": 1.0} for regex in patterns],
            }
            for entity, patterns in found.items()
        ],
        "secrets",
    )
