"""The rates of one tenant in this process; those that are full again are dropped by and by."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.storage import gcra
from gateway.storage.interface import RateClaim, RateState


@dataclass(slots=True)
class Refused:
    index: int
    wait_us: int


class Rates:
    """``now_us``: epoch microseconds. A counter that is absent is full."""

    __slots__ = ("_tats",)

    def __init__(self) -> None:
        self._tats: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._tats)

    def charged(self, claims: Sequence[RateClaim], now_us: int) -> dict[str, float] | Refused:
        """What to ``store`` if all fit; else the claim that must wait longest."""
        now = now_us - gcra.ORIGIN_US
        tats, charged = self._tats, dict[str, float]()
        worst_us, refused = 0.0, -1
        for index, claim in enumerate(claims):
            counter = claim.counter
            tat_us = charged[counter] if counter in charged else tats.get(counter, 0.0)
            debt_us = tat_us - now if tat_us > now else 0.0
            excess_us = gcra.excess_us(debt_us, claim.limit, claim.cost)
            if excess_us > worst_us:
                worst_us, refused = excess_us, index
            charged[counter] = gcra.moved(tat_us, now, claim.limit, claim.cost)
        return charged if refused < 0 else Refused(refused, gcra.wait_us(worst_us))

    def store(self, charged: dict[str, float], now_us: int) -> None:
        now = now_us - gcra.ORIGIN_US
        for counter, tat_us in charged.items():
            if counter not in self._tats:
                self._drop_full(now)
            self._tats[counter] = tat_us

    def correct(self, corrections: Sequence[tuple[RateClaim, int]], now_us: int) -> None:
        now = now_us - gcra.ORIGIN_US
        for claim, units in corrections:
            tat_us = self._tats.get(claim.counter, 0.0)
            self.store({claim.counter: gcra.moved(tat_us, now, claim.limit, units)}, now_us)

    def states(self, claims: Sequence[RateClaim], now_us: int) -> list[RateState]:
        now, tats = now_us - gcra.ORIGIN_US, self._tats
        return [gcra.state(tats.get(claim.counter, 0.0) - now, claim.limit) for claim in claims]

    def _drop_full(self, now: int) -> None:
        """Looks at the two counters that were looked at longest ago: so none is kept for ever."""
        for _ in range(min(2, len(self._tats))):
            counter, tat_us = next(iter(self._tats.items()))
            if tat_us > now:
                self._tats.move_to_end(counter)
            else:
                del self._tats[counter]
