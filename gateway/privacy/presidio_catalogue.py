"""The recognisers of Presidio for the entities that are asked for; imported and built on first use only.

Nothing here reaches the network: the list of public suffixes is the one that comes with tldextract.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any

from gateway.privacy.interface import Match
from gateway.privacy.normalise import fold
from gateway.privacy.presidio_finders import NUMBERED, TRIGGERS, Finder, Run, trigger
from gateway.privacy.presidio_phone import phone_finder
from gateway.privacy.presidio_repairs import REPAIRS, SSN_CUE
from gateway.privacy.recognisers import (
    DOT_ALL,
    IGNORE_CASE,
    MULTI_LINE,
    OwnRecogniser,
    Scored,
    compile_linear,
)
from gateway.privacy.tokens import find_addresses

# Classes that call a service or load a model, or only pass on what a model found.
_NOT_LOCAL = (
    "Azure",
    "LangExtract",
    "GLiNER",
    "HuggingFace",
    "MedicalNER",
    "Spacy",
    "Stanza",
    "Transformers",
)
# Presidio's own pattern takes time that is quadratic in the length of a word with dots.
_LINEAR = frozenset({"URL"})
_SERIES_2 = r"\b2[2-7]\d{2}[- ]?\d{4}[- ]?\d{4}[- ]?\d{4}\b"
# Last labels of hosts in mail addresses that no registry sells: reserved ones and those of inner networks.
_INSIDE_SUFFIXES = ("example", "test", "invalid", "local", "internal", "intranet", "corp", "lan", "home")
_CALLED_SCORE, _CUE_CHARS = 0.5, 48
_CARD_WORDS = ("tarjeta", "crédito", "credito", "kreditkarte", "karte", "carte", "bancaire")
_EXTRA_WORDS = {
    "CREDIT_CARD": _CARD_WORDS,
    "IBAN_CODE": ("konto", "compte", "cuenta", "account"),
    "US_SSN": ("ssn", "social", "security"),
}


class UnknownEntity(ValueError):
    """No recogniser finds the entity; the message names those that can be asked for."""


def finders(entities: frozenset[str], languages: tuple[str, ...]) -> list[Finder]:
    """One finder for each recogniser that ``entities`` need; raises ``UnknownEntity``."""
    silence()
    known = catalogue()
    unknown = sorted(entities - known.keys())
    if unknown:
        raise UnknownEntity(
            f"Presidio has no recogniser for {', '.join(unknown)}; use one of {', '.join(sorted(known))}, "
            "or define your own recogniser for it."
        )
    return [
        finder for entity in sorted(entities) for finder in _for_entity(entity, known[entity], languages)
    ]


@cache
def catalogue() -> dict[str, tuple[type[Any], ...]]:
    """Which classes of Presidio find an entity, without those that need a model or a service."""
    from presidio_analyzer import EntityRecognizer, predefined_recognizers

    found: dict[str, tuple[type[Any], ...]] = {}
    for name in predefined_recognizers.__all__:
        kind = getattr(predefined_recognizers, name)
        if isinstance(kind, type) and issubclass(kind, EntityRecognizer) and not _is_remote(name):
            for entity in _built(kind).supported_entities:
                found[entity] = (*found.get(entity, ()), kind)
    return found


def silence() -> None:
    """Presidio's log holds the text that it looks at; it must not reach the gateway's log."""
    logging.getLogger("presidio-analyzer").setLevel(logging.CRITICAL + 1)
    for name in ("tldextract", "phonenumbers"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)


@cache
def suffixes() -> Any:
    """The public suffixes as they come with the package: no download, no cache folder."""
    import tldextract

    extract = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None, extra_suffixes=_INSIDE_SUFFIXES)
    extract("mail.example.com")
    return extract


def _for_entity(entity: str, kinds: tuple[type[Any], ...], languages: tuple[str, ...]) -> Iterator[Finder]:
    for kind in kinds:
        if entity == "PHONE_NUMBER":
            yield phone_finder(kind, languages)
            continue
        recogniser = kind(supported_language=languages[0]) if entity in TRIGGERS else kind()
        _adjust(recogniser, entity)
        pattern, margin = TRIGGERS.get(entity) or (NUMBERED if kind.COUNTRY_CODE else (None, None))
        yield Finder(
            name=recogniser.name,
            entities=frozenset({entity}),
            run=_run(recogniser, entity),
            language=recogniser.supported_language,
            context=(*recogniser.context, *_EXTRA_WORDS.get(entity, ())),
            trigger=None if pattern is None else trigger(pattern),
            margin=margin,
            repair=REPAIRS.get(entity),
        )


def _run(recogniser: Any, entity: str) -> Any:
    if entity == "IP_ADDRESS":
        return _addresses
    if entity == "US_SSN":
        return _called_ssn(_runner(recogniser, entity))
    return _linear(recogniser, entity) if entity in _LINEAR else _runner(recogniser, entity)


def _called_ssn(run: Run) -> Run:
    """``run``, sure where "SSN" stands before, also in ``{"ssn":"…"}``, one word to the tokenizer."""

    def surer(text: str) -> list[Match]:
        return [
            replace(match, score=max(match.score, _CALLED_SCORE))
            if SSN_CUE.search(text, max(0, match.start - _CUE_CHARS), match.start)
            else match
            for match in run(text)
        ]

    return surer


def _addresses(text: str) -> list[Match]:
    """Not by Presidio's patterns, which know no ports of dumps and take slices and scopes for addresses."""
    folded = fold(text)
    return [
        Match(*folded.span(found.start, found.end), found.entity, found.score)
        for found in find_addresses(folded)
    ]


def _adjust(recogniser: Any, entity: str) -> None:
    if entity == "EMAIL_ADDRESS":
        recogniser.validate_result = _has_suffix
    elif entity == "CREDIT_CARD":
        from presidio_analyzer import Pattern

        recogniser.patterns = [*recogniser.patterns, Pattern("Mastercard 2-series", _SERIES_2, 0.3)]


def _runner(recogniser: Any, entity: str) -> Any:
    wanted = [entity]

    def run(text: str) -> list[Match]:
        results = recogniser.analyze(text, wanted)
        return [Match(found.start, found.end, found.entity_type, found.score) for found in results]

    return run


def _linear(recogniser: Any, entity: str) -> Any:
    """The patterns of ``recogniser`` on RE2, without the quoted forms: they take the quotes along."""
    flags = IGNORE_CASE | MULTI_LINE | DOT_ALL
    patterns = tuple(
        Scored(compile_linear(pattern.regex, entity, flags), pattern.score)
        for pattern in recogniser.patterns
        if "Quoted" not in pattern.name
    )
    return OwnRecogniser(recogniser.name, entity, patterns, {}).find


def _has_suffix(address: str) -> bool:
    return bool(suffixes()(address).fqdn)


def _built(kind: type[Any]) -> Any:
    return kind()


def _is_remote(name: str) -> bool:
    return any(part in name for part in _NOT_LOCAL)
