"""One search of a request's texts, and the slices in which it is done."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.detection.messages import MOST_MATCHES, TOO_MANY, Nonsense, unpack_matches
from gateway.frames import Message
from gateway.privacy.interface import Detector, DetectorFailed, Match, PartlyFailed, TooManyFinds
from gateway.privacy.policy import DetectorSpec

MOST_TEXTS = 1024
"""In a slice."""
LEAST_BOUND = 64 * 1024
"""Nothing that is looked for is longer: where so much settles nothing, it is cut by force."""


@dataclass(frozen=True, slots=True)
class Slice:
    """Whole texts; or, where ``cut``, one part of a long text. The first ``lead`` characters of a part were
    searched before. ``last``: the text ends with this part. ``force``: it is cut, whatever it is."""

    texts: list[str]
    cut: bool = False
    lead: int = 0
    last: bool = True
    force: bool = False


class Question:
    """``slice_chars``: how much is searched at a time. A text that is longer is cut where the detector says
    that nothing lies across, and what lies before the cut is shown again, as far as the detector looks
    back. Where nothing is settled more and more of a text is shown, up to twice as much, or ``LEAST_BOUND``
    characters. ``answer`` has the matches of each text, and is cancelled with whoever waits for it."""

    def __init__(
        self,
        spec: DetectorSpec,
        detector: Detector,
        texts: Sequence[str],
        slice_chars: int,
        budget_s: float,
    ) -> None:
        self.spec = spec
        self.chars = sum(map(len, texts))
        self.short = self.chars <= slice_chars and len(texts) <= MOST_TEXTS
        self.ends_s = time.monotonic() + budget_s
        self.answer: asyncio.Future[list[list[Match]]] = asyncio.get_running_loop().create_future()
        self._texts = texts
        self._reach, self._entities = detector.reach, detector.entities
        self._slice_chars = slice_chars
        self._window = self._least_window = max(slice_chars, 2 * detector.reach)
        self._most_window = max(2 * self._least_window, LEAST_BOUND)
        self._force = False
        self._found: list[list[Match]] = []
        self._part: list[Match] = []
        self._settled = self._count = 0
        self._fault: str | None = None

    @property
    def open(self) -> bool:
        return not self.answer.done()

    def fail(self, why: str) -> None:
        if self.open:
            self.answer.set_exception(TooManyFinds(why) if why == TOO_MANY else DetectorFailed(why))

    def close(self) -> None:
        """Nobody waits any more."""
        if not self.answer.cancel() and not self.answer.cancelled():
            self.answer.exception()  # has been looked at: asyncio need not say that it was not
        self._texts = ()

    def cut(self) -> Slice:
        """What is to be searched next."""
        text = self._texts[len(self._found)]
        if not self._settled and len(text) <= self._slice_chars:
            return Slice(self._whole_texts())
        lead = min(self._settled, self._reach)
        end = self._settled + self._window
        last = end >= len(text)
        return Slice([text[self._settled - lead : end]], True, lead, last, self._force and not last)

    def take(self, slice_: Slice, answer: Message) -> None:
        """What was found in the slice. Raises ``Nonsense``."""
        if not self.open:
            return
        if "failed" in answer:
            self.fail(str(answer["failed"]))
            return
        if "fault" in answer:
            self._fault = self._fault or str(answer["fault"])
        found, end = answer.get("found"), answer.get("end")
        if not isinstance(found, list) or len(found) != len(slice_.texts):
            raise Nonsense("the detector's answer is not about what was asked")
        matches = [
            unpack_matches(packed, len(text), self._entities)
            for packed, text in zip(found, slice_.texts, strict=True)
        ]
        if slice_.cut:
            self._take_part(slice_, matches[0], end)
        else:
            self._found += matches
            self._count += sum(map(len, matches))
        if self._count > MOST_MATCHES:
            self.fail(TOO_MANY)
        elif len(self._found) == len(self._texts):
            self._finish()

    def _finish(self) -> None:
        if self._fault is not None:
            self.answer.set_exception(PartlyFailed(self._fault, self._found))
        else:
            self.answer.set_result(self._found if any(self._found) else [])

    def _whole_texts(self) -> list[str]:
        texts: list[str] = []
        chars = 0
        for place in range(len(self._found), min(len(self._found) + MOST_TEXTS, len(self._texts))):
            text = self._texts[place]
            chars += len(text)
            if texts and chars > self._slice_chars:
                break
            texts.append(text)
        return texts

    def _take_part(self, slice_: Slice, matches: list[Match], end: object) -> None:
        chars = len(slice_.texts[0])
        if type(end) is not int or not 0 <= end <= chars or (slice_.last and end != chars):
            raise Nonsense("the detector's answer is not about what was asked")
        if end <= slice_.lead and not slice_.last:
            if slice_.force:
                raise Nonsense("the detector's answer is not about what was asked")
            self._force = self._window >= self._most_window
            self._window = min(2 * self._window, self._most_window)  # more of it has to be seen
            return
        offset = self._settled - slice_.lead
        new = [
            Match(max(match.start, slice_.lead) + offset, match.end + offset, match.entity, match.score)
            for match in matches
            if match.end > slice_.lead
        ]
        self._part += new
        self._count += len(new)
        self._settled, self._window = offset + end, self._least_window
        self._force = False
        if slice_.last:
            self._found.append(self._part)
            self._part, self._settled = [], 0
