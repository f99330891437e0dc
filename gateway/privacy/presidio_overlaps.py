"""One match where several recognisers see the same characters."""

from __future__ import annotations

from collections.abc import Iterable

from gateway.privacy.interface import Match

# For an entity that is asked for: what else must be looked for, as false ones of it lie in there.
RIVALS: dict[str, frozenset[str]] = {
    "URL": frozenset({"EMAIL_ADDRESS"}),
    "UK_NHS": frozenset({"PHONE_NUMBER"}),
    "MAC_ADDRESS": frozenset({"CREDIT_CARD"}),
    "PHONE_NUMBER": frozenset({"CREDIT_CARD", "IP_ADDRESS", "IBAN_CODE", "US_SSN"}),
    "US_SSN": frozenset({"CREDIT_CARD"}),
}
CONFIRMED_SCORE, UNCONFIRMED_SCORE = 1.0, 0.5
_RANK = {"PRIVATE_KEY": 5, "JWT": 4, "API_KEY": 4, "EMAIL_ADDRESS": 3, "CREDIT_CARD": 3, "IBAN_CODE": 3}
_RANK |= {"IP_ADDRESS": 3, "US_SSN": 3, "PHONE_NUMBER": 2, "UK_NHS": 1}


def with_rivals(entities: frozenset[str]) -> frozenset[str]:
    """``entities`` and those whose matches decide between them."""
    return entities.union(*(RIVALS.get(entity, frozenset()) for entity in entities))


def resolved(matches: Iterable[Match], wanted: frozenset[str]) -> list[Match]:
    """The matches of ``wanted`` entities in order and without overlaps.

    The longest wins, then the kind, then the score. A match that lies in a better one of another entity is
    gone, even when that entity is not wanted. Two that overlap at their ends become one stretch, so that no
    part is left in the open.
    """
    ordered = sorted(matches, key=lambda match: (match.start, -match.end, -_rank(match), -match.score))
    kept: list[Match] = []
    rival: Match | None = None
    for match in ordered:
        if rival is not None and match.end <= rival.end:
            continue
        if match.entity in wanted:
            _keep(kept, match)
        elif not kept or match.start >= kept[-1].end or _beats(match, kept[-1]):
            if kept and kept[-1].start == match.start and kept[-1].end <= match.end:
                kept.pop()
            rival = match
    return kept


def _keep(kept: list[Match], match: Match) -> None:
    if not kept or match.start >= kept[-1].end:
        kept.append(match)
        return
    last = kept[-1]
    winner = match if _beats(match, last) else last
    kept[-1] = Match(last.start, max(last.end, match.end), winner.entity, winner.score)


def _beats(match: Match, other: Match) -> bool:
    return _weight(match) > _weight(other)


def _weight(match: Match) -> tuple[int, int, float]:
    return match.end - match.start, _rank(match), match.score


def _rank(match: Match) -> int:
    if match.entity == "UK_NHS" and match.score >= CONFIRMED_SCORE:
        return 3
    return _RANK.get(match.entity, 0)
