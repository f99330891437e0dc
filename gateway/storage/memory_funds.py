"""The funds of one tenant in this process; those that ended long ago are dropped by and by."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from gateway.storage.interface import Decision, Fund, FundClaim, FundState, Spent

KEEP_S = 40 * 86_400
"""How long a fund is kept after its period has ended."""


class FundCounter:
    """``used`` = ``spent`` + what is reserved; ``spent`` = all of ``totals`` and ``swept``, by writer."""

    __slots__ = ("end_s", "spent", "swept", "totals", "used")

    def __init__(self) -> None:
        self.end_s = 0
        self.used = 0
        self.spent = 0
        self.totals: dict[str, int] = {}
        self.swept: dict[str, int] = {}


class Funds:
    __slots__ = ("_counters",)

    def __init__(self) -> None:
        self._counters: OrderedDict[tuple[str, int], FundCounter] = OrderedDict()

    def __len__(self) -> int:
        return len(self._counters)

    def state(self, fund: Fund) -> FundState:
        counter = self._counters.get((fund.name, fund.start_s))
        return FundState(0, 0) if counter is None else FundState(counter.spent, counter.used)

    def refusal(self, claims: Sequence[FundClaim]) -> tuple[Decision, int] | None:
        """The first claim that does not fit, and whether by what is ``spent`` or only ``reserved``."""
        for index in range(len(claims)):
            room, held = room_nanousd(claims, index), self.state(claims[index].fund)
            if held.spent_nanousd > room:
                return "spent", index
            if held.used_nanousd > room:
                return "reserved", index
        return None

    def reserve(self, claims: Sequence[FundClaim], now_us: int) -> None:
        for claim in claims:
            self._counter(claim.fund, now_us).used += claim.amount_nanousd

    def release(self, claims: Sequence[FundClaim]) -> None:
        for claim in claims:
            if (counter := self._counters.get((claim.fund.name, claim.fund.start_s))) is not None:
                counter.used -= claim.amount_nanousd

    def sweep(self, writer: str, claims: Sequence[FundClaim]) -> None:
        """What was reserved counts as spent, until ``unsweep``."""
        for claim in claims:
            if (counter := self._counters.get((claim.fund.name, claim.fund.start_s))) is not None:
                counter.spent += claim.amount_nanousd
                counter.swept[writer] = counter.swept.get(writer, 0) + claim.amount_nanousd

    def unsweep(self, writer: str) -> None:
        for counter in self._counters.values():
            swept = counter.swept.pop(writer, 0)
            counter.used -= swept
            counter.spent -= swept

    def take_over(self, writer: str, totals: Sequence[Spent], now_us: int) -> list[FundState]:
        """Totals count where they are larger than what is known; the states afterwards, in order."""
        for total in totals:
            counter = self._counter(total.fund, now_us)
            more = total.total_nanousd - counter.totals.get(writer, 0)
            if more > 0:
                counter.totals[writer] = total.total_nanousd
                counter.spent += more
                counter.used += more
        return [self.state(total.fund) for total in totals]

    def _counter(self, fund: Fund, now_us: int) -> FundCounter:
        key = (fund.name, fund.start_s)
        counter = self._counters.get(key)
        if counter is None:
            self._drop_old(now_us)
            counter = self._counters[key] = FundCounter()
        counter.end_s = fund.end_s
        return counter

    def _drop_old(self, now_us: int) -> None:
        """Looks at the two counters that were looked at longest ago."""
        for _ in range(min(2, len(self._counters))):
            key, counter = next(iter(self._counters.items()))
            if counter.end_s and (counter.end_s + KEEP_S) * 1_000_000 < now_us:
                del self._counters[key]
            else:
                self._counters.move_to_end(key)


def room_nanousd(claims: Sequence[FundClaim], index: int) -> int:
    """What may be used for the claim at ``index`` to fit, beside those before it; may be negative."""
    claim = claims[index]
    room = claim.fund.limit_nanousd - claim.amount_nanousd
    for earlier in claims[:index]:
        if earlier.fund.name == claim.fund.name and earlier.fund.start_s == claim.fund.start_s:
            room -= earlier.amount_nanousd
    return room
