"""What a policy would do with a document, as far as ``llm-gateway redact`` tells it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from gateway.cli.redact_input import NAME, Document
from gateway.privacy.interface import Blocked, Detector, DetectorFailed, Match
from gateway.privacy.placeholders import LITERAL, Placeholders, with_literals
from gateway.privacy.policy import Policy

LOGPROBS = "logprobs"
"""A request for the probabilities of the answer's tokens, which are pieces of its text."""

_SHORT_VALUE, _SHOWN_ENDS = 8, 2


@dataclass(frozen=True, slots=True)
class Find:
    """``where``: a path, or line:column. ``action``: the policy's, or ``literal``: masked, and put back if
    anything is. ``start``, ``end``: characters of the text there, from 0."""

    where: str
    entity: str
    score: float
    action: str
    value: str
    start: int
    end: int


@dataclass(slots=True)
class Verdict:
    """``kind``: text or json. ``policy``: whose, empty for one made of options. ``skipped``: parts that
    were not searched, by kind. ``failed``: why the search itself failed, empty if it did not. ``refused``:
    why the gateway would refuse the request, empty if it would not. ``redacted``: None where it would.
    ``took_s``: the search."""

    kind: str
    policy: str = ""
    finds: list[Find] = field(default_factory=list)
    skipped: dict[str, int] = field(default_factory=dict)
    failed: str = ""
    refused: list[str] = field(default_factory=list)
    redacted: str | dict[str, Any] | None = None
    took_s: float = 0.0

    @property
    def counts(self) -> Counter[str]:
        """Finds by entity, as metrics and ledger count them: what a client typed is none."""
        return Counter(find.entity for find in self.finds if find.entity != LITERAL)

    def without_values(self) -> Verdict:
        """The same, with every value shortened, also where it is a name in a path."""
        names = [find.value for find in self.finds if find.where.endswith(NAME)]
        return replace(self, finds=[_without_value(find, names) for find in self.finds])


def judged(document: Document, policy: Policy, detector: Detector) -> Verdict:
    """What the gateway would do with ``document``, which is redacted in place; what it finds in it also
    where only answers are searched."""
    verdict = Verdict(document.kind.value, skipped=_skipped(document, policy))
    verdict.refused += _uncovered(verdict.skipped, policy)
    started_s = time.monotonic()
    try:
        found = [detector.find(text) for text in document.body.texts]
    except DetectorFailed as failed:
        verdict.failed = str(failed)
        if policy.inputs and policy.on_failure == "refuse":
            verdict.refused.append("what could not be searched does not pass (on_failure: refuse)")
    else:
        verdict.took_s = round(time.monotonic() - started_s, 6)
        placeholders = Placeholders(policy.actions, policy.hash_key)
        verdict.finds = list(_finds(document, found, policy, placeholders.replaces))
        if policy.inputs:
            verdict.refused += _redacted(document, found, placeholders)
    if not verdict.refused:
        verdict.redacted = document.redacted
    return verdict


def _skipped(document: Document, policy: Policy) -> dict[str, int]:
    asked = document.native.get(LOGPROBS) not in (None, False)
    more = {LOGPROBS: 1} if asked and policy.outputs and policy.replaces else {}
    return more | (dict(document.body.skipped) if policy.inputs else {})


def _uncovered(skipped: dict[str, int], policy: Policy) -> list[str]:
    if not skipped or policy.uncovered == "pass" or not policy.protects:
        return []
    return ["the policy lets nothing pass that is not searched (uncovered: refuse)"]


def _finds(document: Document, found: list[list[Match]], policy: Policy, literals: bool) -> Iterator[Find]:
    """``literals``: also what a client typed in the form of a placeholder, which is masked itself."""
    for number, (text, matches) in enumerate(zip(document.body.texts, found, strict=True)):
        for match in with_literals(text, matches) if literals else matches:
            action = "literal" if match.entity == LITERAL else policy.actions.of(match.entity)
            value = text[match.start : match.end]
            place = document.place(number, match.start)
            yield Find(place, match.entity, match.score, action, value, match.start, match.end)


def _redacted(document: Document, found: list[list[Match]], placeholders: Placeholders) -> list[str]:
    """Redacts in place; the reasons to refuse instead."""
    try:
        document.body.redact(found, placeholders)
    except Blocked:
        kinds = {match.entity for matches in found for match in matches}
        blocked = sorted(kind for kind in kinds if placeholders.actions.of(kind) == "block")
        return [f"the policy blocks {named(blocked)}"]
    except DetectorFailed as failed:
        return [str(failed)]
    return []


def _without_value(find: Find, names: Sequence[str]) -> Find:
    where = find.where
    for name in names:
        where = where.replace(name, shortened(name))
    value = find.value if find.entity == LITERAL else shortened(find.value)
    return replace(find, where=where, value=value)


def shortened(value: str) -> str:
    """``jo…om``: enough to know it again, for whoever has seen it."""
    shown = _SHOWN_ENDS if len(value) >= _SHORT_VALUE else len(value) // 4
    return f"{value[:shown]}…{value[len(value) - shown :]}"


def named(kinds: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    *most, last = kinds
    return f"{', '.join(most)} and {last}" if most else last
