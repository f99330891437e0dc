"""How fast a deployment has been: what least_latency goes by, and when a hedge is due."""

from __future__ import annotations

import math
from collections import deque

DECAY_S = 30.0
"""What was seen this long ago counts for a third."""
REMEMBERED = 128


class Latency:
    """Seconds to the first event, by the peak-sensitive moving average of Finagle and tower
    (``PeakEwma``): a slower answer counts at once, faster ones by and by, and silence makes it hopeful,
    so that a slow deployment is tried again.
    """

    __slots__ = ("_at_s", "_estimate_s", "_recent")

    def __init__(self) -> None:
        self._estimate_s = 0.0
        self._at_s = 0.0
        self._recent: deque[float] = deque(maxlen=REMEMBERED)

    @property
    def known(self) -> bool:
        return bool(self._at_s)

    def observe(self, now_s: float, seconds: float) -> None:
        """An answer whose first event took ``seconds``."""
        self._recent.append(seconds)
        self._learn(now_s, seconds)

    def penalise(self, now_s: float, seconds: float) -> None:
        """A failure: counts as slow, so that failing fast is not attractive."""
        self._learn(now_s, seconds)

    def estimate_s(self, now_s: float) -> float:
        """What to expect; 0 where nothing is known."""
        return self._estimate_s * math.exp(-max(now_s - self._at_s, 0.0) / DECAY_S)

    def quantile_s(self, share: float, least: int = 20) -> float | None:
        """The quantile of the last answers, None with fewer than ``least`` of them."""
        if len(self._recent) < least:
            return None
        ranked = sorted(self._recent)
        return ranked[min(int(share * len(ranked)), len(ranked) - 1)]

    def _learn(self, now_s: float, seconds: float) -> None:
        kept = math.exp(-max(now_s - self._at_s, 0.0) / DECAY_S)
        mean_s = self._estimate_s * kept + seconds * (1.0 - kept)
        self._estimate_s = max(seconds, mean_s)
        self._at_s = now_s
