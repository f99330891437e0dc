"""A detector that does not work must not look like a text without personal data."""

from __future__ import annotations

from collections.abc import Callable

from gateway.privacy.interface import Detector, DetectorFailed, Match
from gateway.privacy.placeholders import substitute


class Guarded:
    """``detector`` whose every fault is a ``DetectorFailed``; where ``passes`` is given it is called
    instead, and the text counts as searched. ``before``: called each time before ``detector`` is asked; may
    raise ``DetectorFailed``."""

    def __init__(
        self,
        detector: Detector,
        passes: Callable[[], None] | None = None,
        before: Callable[[], None] | None = None,
    ) -> None:
        self.entities = detector.entities
        self.reach = detector.reach
        self._detector = detector
        self._passes = passes
        self._before = before

    def find(self, text: str) -> list[Match]:
        try:
            if self._before is not None:
                self._before()
            return self._detector.find(text)
        except Exception as fault:
            self._failed(fault)
            return fault.partial if isinstance(fault, DetectorFailed) else []

    def settled(self, text: str) -> int:
        try:
            if self._before is not None:
                self._before()
            return self._detector.settled(text)
        except Exception as fault:
            self._failed(fault)
            return len(text)

    def _failed(self, fault: Exception) -> None:
        if self._passes is not None:
            self._passes()
        elif isinstance(fault, DetectorFailed):
            raise fault
        else:
            raise DetectorFailed(f"the detector crashed with {type(fault).__name__}") from fault


class Noting:
    """``detector`` that goes on when it fails: what was found all the same counts, and ``fault`` says what
    failed first."""

    def __init__(self, detector: Detector) -> None:
        self.entities = detector.entities
        self.reach = detector.reach
        self.fault: str | None = None
        self._detector = detector

    def find(self, text: str) -> list[Match]:
        try:
            return self._detector.find(text)
        except Exception as error:
            self._note(error)
            return error.partial if isinstance(error, DetectorFailed) else []

    def settled(self, text: str) -> int:
        try:
            return self._detector.settled(text)
        except Exception as error:
            self._note(error)
            return len(text)

    def _note(self, error: Exception) -> None:
        known = isinstance(error, DetectorFailed)
        self.fault = self.fault or (
            str(error) if known else f"the detector crashed with {type(error).__name__}"
        )


def concealed(detector: Detector, text: str) -> str:
    """``text`` for people who need not know whose it is; never raises."""
    try:
        found = Guarded(detector).find(text)
    except DetectorFailed as failed:
        return f"not shown: {failed}"
    return substitute(text, found, lambda entity, value: f"[{entity}]")
