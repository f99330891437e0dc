"""From the description of a detector to the detector."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from gateway.privacy.detect_fast import SUPPORTED, DetectionPolicy, FastDetector
from gateway.privacy.entities import DENIED
from gateway.privacy.interface import Detector
from gateway.privacy.joined import Joined
from gateway.privacy.policy import DetectorSpec
from gateway.privacy.presidio import Gate, PresidioDetector
from gateway.privacy.presidio_overlaps import with_rivals
from gateway.privacy.recognisers import OwnRecogniser, compile_linear, parse_recognisers

_BUDGET_S = 60.0
_OCTETS = "[0-9A-Fa-f]{2}[:.-][0-9A-Fa-f]{2}"
_SIGNS = {"EMAIL_ADDRESS": "@", "IP_ADDRESS": ":[0-9A-Fa-f]{0,4}:", "MAC_ADDRESS": _OCTETS}


def build_detector(spec: DetectorSpec) -> Detector:
    """Raises ``ValueError`` for what cannot be looked for so; the message says what to do. Presidio is
    imported only where ``spec`` needs it, and a model loaded only where names are asked for."""
    own = own_recognisers(spec)
    found_by_own = {recogniser.entity for recogniser in own}
    asked = frozenset(spec.entities) - {DENIED}
    if spec.engine == "presidio":
        return _presidio(spec, asked, own)
    built_in = asked - (found_by_own - SUPPORTED)
    if not own:
        return _fast(spec, built_in)
    wide = PresidioDetector(
        (),
        threshold=spec.threshold,
        allow=spec.allow,
        allow_patterns=spec.allow_patterns,
        recognisers=own,
        budget_s=_BUDGET_S,
    )
    return Joined(wide, _fast(spec, built_in)) if built_in or spec.deny else wide


def own_recognisers(spec: DetectorSpec) -> tuple[OwnRecogniser, ...]:
    """Raises ``RecogniserFault``, a ``ValueError``."""
    return parse_recognisers(json.loads(spec.recognisers), "recognisers") if spec.recognisers else ()


def gate(entities: frozenset[str]) -> Gate | None:
    """The spots without which no recogniser for ``entities`` finds anything; None where there are no such.

    All of them need a digit, or one of a few signs. Web addresses do not, and are of any length.
    """
    if "URL" in entities:
        return None
    signs = [sign for entity, sign in _SIGNS.items() if entity in with_rivals(entities)]
    spots = compile_linear("|".join([r"\p{Nd}+", *signs]), "gate")

    def flagged(text: str) -> Iterator[tuple[int, int]]:
        for found in spots.finditer(text):
            yield found.span()

    return flagged


def _fast(spec: DetectorSpec, entities: frozenset[str]) -> FastDetector:
    return FastDetector(
        DetectionPolicy(
            entities,
            threshold=spec.threshold,
            allow=spec.allow,
            allow_patterns=spec.allow_patterns,
            deny=spec.deny,
            phone_regions=spec.phone_regions,
        )
    )


def _presidio(spec: DetectorSpec, asked: frozenset[str], own: Sequence[OwnRecogniser]) -> PresidioDetector:
    return PresidioDetector(
        asked,
        spec.languages,
        spec.threshold,
        spec.allow,
        spec.allow_patterns,
        spec.deny,
        own,
        None if spec.model_path is None else Path(spec.model_path),
        gate(asked) if spec.scan == "flagged" else None,
        _BUDGET_S,
    )
