"""Words near a match that speak for it, by Presidio's own rule, on a blank tokenizer."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from gateway.privacy.interface import Match
from gateway.privacy.plain_context import CONTEXT_CHARS


class ContextWords:
    """Raises the score of a match that has a word of its recogniser's context in the five words before it.

    Only the ``CONTEXT_CHARS`` characters before a match are tokenised, and only for matches that need it.
    """

    def __init__(self, languages: tuple[str, ...]) -> None:
        import spacy
        from presidio_analyzer.context_aware_enhancers import LemmaContextAwareEnhancer
        from presidio_analyzer.nlp_engine import SlimSpacyNlpEngine

        self._engine = SlimSpacyNlpEngine(auto_download=False)
        self._blanks = {language: _blank(spacy, language) for language in languages}
        setattr(self._engine, "nlp", self._blanks)
        self._fallback = languages[0]
        self._enhancer = LemmaContextAwareEnhancer()

    def boosted(self, text: str, match: Match, words: tuple[str, ...], language: str) -> float:
        """The score of ``match`` in ``text`` with its context words taken into account."""
        from presidio_analyzer import AnalysisExplanation, RecognizerResult

        start = max(0, match.start - CONTEXT_CHARS)
        part = text[start : match.end]
        result = RecognizerResult(
            match.entity,
            match.start - start,
            match.end - start,
            match.score,
            analysis_explanation=AnalysisExplanation(recognizer=match.entity, original_score=match.score),
            recognition_metadata={RecognizerResult.RECOGNIZER_IDENTIFIER_KEY: "one"},
        )
        speaking: Any = SimpleNamespace(id="one", name=match.entity, context=list(words))
        raised = self._enhancer.enhance_using_context(
            part, [result], self._artifacts(part, language), [speaking]
        )
        return float(raised[0].score)

    def _artifacts(self, text: str, language: str) -> Any:
        from presidio_analyzer.nlp_engine import NlpArtifacts

        language = language if language in self._blanks else self._fallback
        tokens = self._blanks[language](text)
        return NlpArtifacts(
            entities=[],
            tokens=tokens,
            tokens_indices=[token.idx for token in tokens],
            lemmas=[token.lower_ for token in tokens],
            nlp_engine=self._engine,
            language=language,
        )


def _blank(spacy: Any, language: str) -> Any:
    try:
        return spacy.blank(language)
    except ImportError:
        return spacy.blank("xx")
