"""What became of the personal data of one exchange."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.privacy.interface import Counts, added, no_counts
from gateway.privacy.placeholders import AnswerPlaceholders, Placeholders
from gateway.privacy.policy import Action, Policy

_SHOWN: dict[Action, str] = {"restore": "mask"}


class Redaction:
    """``found_in``, ``found_out``: finds by entity in the request and in the answer so far. ``skipped``,
    ``skipped_out``: parts of them that were passed without a search, by kind. ``blocked``: the entity or
    kind of part that ended it.
    ``failed_in``, ``failed_out``: a search failed, whether the tenant lets that pass or not. ``answered``:
    there is an answer to search."""

    __slots__ = (
        "answer",
        "answered",
        "blocked",
        "failed_in",
        "failed_out",
        "placeholders",
        "policy",
        "skipped",
        "skipped_out",
    )

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.placeholders = Placeholders(policy.actions, policy.hash_key)
        self.answer = AnswerPlaceholders(self.placeholders)
        self.skipped = no_counts()
        self.skipped_out = no_counts()
        self.blocked = ""
        self.failed_in = self.failed_out = self.answered = False

    @property
    def found_in(self) -> Counts:
        return self.placeholders.counts

    @property
    def found_out(self) -> Counts:
        return self.answer.counts

    @property
    def passed_unsearched(self) -> bool:
        return self.policy.on_failure == "pass" and (self.failed_in or self.failed_out)

    def row(self) -> dict[str, Any] | None:
        """What the ledger holds of it: ``input``, ``output`` and ``skipped`` (counts by name), ``blocked``
        (an entity) and ``failed`` (directions that passed unsearched), each only where there is something;
        None if nowhere."""
        found = self.found_in or self.found_out or self.skipped or self.skipped_out or self.blocked
        if not found and not self.passed_unsearched:
            return None
        failed = ["input"] * self.failed_in + ["output"] * self.failed_out
        parts = {
            "input": self.found_in,
            "output": self.found_out,
            "skipped": added(self.skipped, self.skipped_out),
            "blocked": self.blocked,
            "failed": failed if self.passed_unsearched else [],
        }
        return {name: part for name, part in parts.items() if part} or None

    def header(self, *, stream: bool = False) -> bytes:
        """``input=…;output=…``: off, none (no answer), clean, failed, stream (searched as it comes), or how
        often what was done."""
        into = self._did(self.found_in, self.failed_in) if self.policy.inputs else "off"
        if skipped := sum(self.skipped.values()):
            into += f",skipped:{skipped}"
        return f"input={into};output={self._out(stream)}".encode()

    def _out(self, stream: bool) -> str:
        if not self.policy.outputs:
            return "off"
        if stream:
            return "stream"
        out = self._did(self.found_out, self.failed_out) if self.answered else "none"
        skipped = sum(self.skipped_out.values())
        return f"{out},skipped:{skipped}" if skipped else out

    def _did(self, found: Mapping[str, int], failed: bool) -> str:
        if failed:
            return "failed"
        if not found:
            return "clean"
        done = no_counts()
        for entity, count in found.items():
            action = self.policy.actions.of(entity)
            done[_SHOWN.get(action, action)] += count
        return ",".join(f"{name}:{count}" for name, count in sorted(done.items()))
