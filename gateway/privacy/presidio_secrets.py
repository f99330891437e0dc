"""Keys and tokens that Presidio does not know, as recognisers in its own format."""

from __future__ import annotations

from functools import cache

from gateway.privacy.recognisers import OwnRecogniser, parse_recognisers

# Each prefix is the issuer's own; what follows has the issuer's alphabet and at least its usual length.
_API_KEYS = (
    r"\bsk-(?:(?:proj|svcacct|admin|or-v1|ant-[a-z0-9]{2,8})-)?[A-Za-z0-9_-]{20,}",
    r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b",
    r"\bgh[pousr]_[A-Za-z0-9]{30,}\b",
    r"\bgithub_pat_[A-Za-z0-9_]{30,}\b",
    r"\bglpat-[A-Za-z0-9_-]{20,}",
    r"\bxox[abeoprs]-[A-Za-z0-9-]{16,}",
    r"\bAIza[A-Za-z0-9_-]{35}",
    r"\b[rsp]k_(?:live|test)_[A-Za-z0-9]{16,}\b",
    r"\bhf_[A-Za-z0-9]{30,}\b",
    r"\bnpm_[A-Za-z0-9]{36}\b",
    r"\bpypi-[A-Za-z0-9_-]{50,}",
    r"\bSG\.[A-Za-z0-9_-]{16,32}\.[A-Za-z0-9_-]{32,64}",
    r"\b(?:gsk|xai)[_-][A-Za-z0-9]{30,}\b",
)
_JWT = r"\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]*[A-Za-z0-9_]"
_HEADER = r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----"
_BODY = r"[A-Za-z0-9+/=\s\\:,.()-]*?"
_FOOTER = r"-----END (?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----"
# A key without its end: what was pasted of it.
_TORN = r"(?:(?:\s|\\[rn])*[A-Za-z0-9+/=]{16,})+(?:(?:\s|\\[rn])+[A-Za-z0-9+/]{1,15}={1,2})?"
_PRIVATE_KEYS = (f"{_HEADER}{_BODY}{_FOOTER}", f"{_HEADER}{_TORN}")

SECRET_ENTITIES = frozenset({"API_KEY", "JWT", "PRIVATE_KEY"})
MULTI_LINE_ENTITIES = frozenset({"PRIVATE_KEY"})


@cache
def secret_recognisers() -> tuple[OwnRecogniser, ...]:
    """One recogniser for each of ``SECRET_ENTITIES``; compiled once."""
    found = {"API_KEY": ("|".join(_API_KEYS),), "JWT": (_JWT,), "PRIVATE_KEY": _PRIVATE_KEYS}
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
