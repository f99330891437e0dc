"""The detectors that are measured, as a tenant would have them."""

from __future__ import annotations

from gateway.privacy.detect_fast import DetectionPolicy, FastDetector
from gateway.privacy.interface import Detector
from gateway.privacy.presidio import PresidioDetector
from tests.accuracy.scoring import STRUCTURED

LANGUAGES = ("en", "de", "fr", "es", "hi")
REGIONS = ("US", "GB", "DE", "FR", "ES", "IN")


def detectors() -> dict[str, Detector]:
    """Each detector by its name."""
    fast = DetectionPolicy(frozenset({*STRUCTURED, "MAC_ADDRESS"}), phone_regions=REGIONS)
    return {
        "fast": FastDetector(fast),
        "presidio": PresidioDetector((*STRUCTURED, "MAC_ADDRESS", "UK_NHS"), LANGUAGES),
    }
