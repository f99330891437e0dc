"""Precision and recall of a detector, by entity."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from gateway.privacy.interface import Detector, Match
from tests.accuracy.sentences import Sentence, Span

STRUCTURED = (
    "EMAIL_ADDRESS",
    "PHONE_NUMBER",
    "CREDIT_CARD",
    "IBAN_CODE",
    "IP_ADDRESS",
    "US_SSN",
    "API_KEY",
    "JWT",
    "PRIVATE_KEY",
)
LEAST_RECALL, LEAST_PRECISION = 0.98, 0.97
SLACK_CHARS = 2


@dataclass(slots=True)
class Score:
    """Counts for one entity; ``errors`` are sentences with what was missed or made up."""

    found: int = 0
    missed: int = 0
    false: int = 0
    errors: list[str] = field(default_factory=list)

    @property
    def precision(self) -> float:
        return self.found / (self.found + self.false) if self.found + self.false else 1.0

    @property
    def recall(self) -> float:
        return self.found / (self.found + self.missed) if self.found + self.missed else 1.0

    @property
    def f1(self) -> float:
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / total if total else 0.0

    @property
    def good_enough(self) -> bool:
        return self.recall >= LEAST_RECALL and self.precision >= LEAST_PRECISION


def score(detector: Detector, sentences: Iterable[Sentence]) -> dict[str, Score]:
    """The scores of ``detector`` for each of its entities, over ``sentences``."""
    scores: dict[str, Score] = defaultdict(Score)
    for sentence in sentences:
        spans = [span for span in sentence.spans if span.entity in detector.entities]
        _count(sentence.text, spans, detector.find(sentence.text), scores)
    return dict(scores)


def below(scores: dict[str, Score], entities: Iterable[str] = STRUCTURED) -> list[str]:
    """One line for each of ``entities`` that is not good enough, or was not looked for at all."""
    return [
        f"{entity}: recall {found.recall:.3f}, precision {found.precision:.3f}"
        for entity in entities
        if not (found := scores.get(entity, Score(missed=1))).good_enough
    ]


def _count(text: str, spans: Sequence[Span], matches: Sequence[Match], scores: dict[str, Score]) -> None:
    open_matches = list(matches)
    for span in spans:
        hit = next((match for match in open_matches if _covers(match, span, text)), None)
        if hit is None:
            scores[span.entity].missed += 1
            scores[span.entity].errors.append(f"missed {text[span.start : span.end]!r} in {text!r}")
        else:
            open_matches.remove(hit)
            scores[span.entity].found += 1
    for match in open_matches:
        scores[match.entity].false += 1
        scores[match.entity].errors.append(f"made up {text[match.start : match.end]!r} in {text!r}")


def _covers(match: Match, span: Span, text: str) -> bool:
    if match.entity != span.entity or match.start > span.start or match.end < span.end:
        return False
    extra = text[match.start : span.start] + text[span.end : match.end]
    return len(extra) <= SLACK_CHARS and not any(letter.isalnum() for letter in extra)
