"""One tenant's counters in this process: what ``lua/`` does in Redis, decision for decision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from gateway.storage.interface import (
    LEASE_S,
    REBUILD_S,
    Ask,
    Decision,
    Fund,
    FundClaim,
    FundState,
    Report,
    Settled,
    SlotClaim,
    Spent,
    Verdict,
)
from gateway.storage.memory_funds import Funds
from gateway.storage.memory_rates import Rates, Refused

LEASE_US = int(LEASE_S * 1e6)
REBUILD_US = int(REBUILD_S * 1e6)


class Held(NamedTuple):
    """What a reservation took, beside its rates."""

    slots: tuple[SlotClaim, ...]
    funds: tuple[FundClaim, ...]
    note: bytes


class TenantCounters:
    """All methods are synchronous, so atomic. ``now_us``: epoch microseconds."""

    __slots__ = (
        "_booted",
        "_funds",
        "_held",
        "_left",
        "_rates",
        "_rebuilt_us",
        "_slots",
        "epoch",
        "leases",
    )

    def __init__(self) -> None:
        self.epoch = 0
        self._booted = False
        self._rebuilt_us = 0
        self.leases: dict[str, int] = {}
        self._held: dict[str, dict[int, Held]] = {}
        self._left: dict[str, list[bytes]] = {}
        self._rates = Rates()
        self._slots: dict[str, int] = {}
        self._funds = Funds()

    def __len__(self) -> int:
        """How many counters and reservations are kept."""
        reserved = sum(map(len, self._held.values()))
        return len(self._rates) + len(self._slots) + len(self._funds) + reserved

    def admit(self, writer: str, ask: Ask, now_us: int) -> Verdict:
        if not (ask.rates or ask.slots or ask.funds):
            return Verdict("admitted", now_us, self.epoch)
        if self.leases.get(writer, 0) > now_us:
            self.leases[writer] = now_us + LEASE_US
        elif ask.slots or ask.funds:
            return Verdict("register", now_us, self.epoch)
        held = self._held.get(writer)
        if held is None:
            held = self._held[writer] = {}
        elif ask.number in held:
            return self._verdict("admitted", ask, now_us)
        if ask.funds and (untimely := self._untimely(ask.funds, now_us)) is not None:
            return untimely
        return self._admit_timely(held, ask, now_us)

    def _admit_timely(self, held: dict[int, Held], ask: Ask, now_us: int) -> Verdict:
        charged = self._rates.charged(ask.rates, now_us)
        if isinstance(charged, Refused):
            return self._verdict("rate", ask, now_us, charged.index, charged.wait_us)
        if ask.slots and (index := self._full_slot(ask.slots)) >= 0:
            return self._verdict("slot", ask, now_us, index)
        if ask.funds and (refusal := self._funds.refusal(ask.funds)) is not None:
            return self._verdict(refusal[0], ask, now_us, refusal[1])
        self._rates.store(charged, now_us)
        held[ask.number] = self._take(ask, now_us)
        return self._verdict("admitted", ask, now_us)

    def settle(self, writer: str, ended: Sequence[Settled], spent: Sequence[Spent], now_us: int) -> Report:
        held = self._held.get(writer, {})
        for end in ended:
            if (reservation := held.pop(end.number, None)) is not None:
                self._free_slots(reservation.slots)
                self._funds.release(reservation.funds)
                self._rates.correct(end.corrections, now_us)
        return self._report(writer, spent, now_us)

    def register(
        self, writer: str, asks: Sequence[Ask], spent: Sequence[Spent], lost: bool, now_us: int
    ) -> Report:
        if lost and not self._booted:
            self._rebuilt_us = now_us + REBUILD_US
        self._booted = True
        left, still = self._left.pop(writer, []), {ask.number for ask in asks}
        for number, reservation in self._held.pop(writer, {}).items():
            self._free_slots(reservation.slots)
            self._funds.release(reservation.funds)
            if reservation.note and number not in still:
                left.append(reservation.note)
        self._funds.unsweep(writer)
        self._held[writer] = {ask.number: self._take(ask, now_us) for ask in asks}
        self.leases[writer] = now_us + LEASE_US
        report = self._report(writer, spent, now_us)
        report.swept = left
        return report

    def renew(self, writer: str, now_us: int) -> Report:
        report = self._report(writer, (), now_us)
        if report.known:
            self.leases[writer] = now_us + LEASE_US
        lapsed = [other for other, until_us in self.leases.items() if until_us <= now_us]
        for other in lapsed:
            if other != writer:
                report.swept += self._sweep(other)
        return report

    def fund_state(self, fund: Fund) -> FundState:
        return self._funds.state(fund)

    def _untimely(self, claims: Sequence[FundClaim], now_us: int) -> Verdict | None:
        if now_us < self._rebuilt_us:
            return Verdict("wait", now_us, self.epoch, wait_us=self._rebuilt_us - now_us)
        now_s = now_us // 1_000_000
        for index, claim in enumerate(claims):
            fund = claim.fund
            if now_s < fund.start_s or (fund.end_s and now_s >= fund.end_s):
                return Verdict("period", now_us, self.epoch, index)
        return None

    def _full_slot(self, claims: Sequence[SlotClaim]) -> int:
        """The index of the first claim that has no place, beside those before it; -1: all have one."""
        for index, claim in enumerate(claims):
            earlier = sum(other.counter == claim.counter for other in claims[:index]) if index else 0
            if self._slots.get(claim.counter, 0) + earlier >= claim.limit:
                return index
        return -1

    def _take(self, ask: Ask, now_us: int) -> Held:
        for slot in ask.slots:
            self._slots[slot.counter] = self._slots.get(slot.counter, 0) + 1
        if ask.funds:
            self._funds.reserve(ask.funds, now_us)
        return Held(tuple(ask.slots), tuple(ask.funds), ask.note if ask.slots or ask.funds else b"")

    def _free_slots(self, claims: Sequence[SlotClaim]) -> None:
        for claim in claims:
            left = self._slots.get(claim.counter, 0) - 1
            if left > 0:
                self._slots[claim.counter] = left
            else:
                self._slots.pop(claim.counter, None)

    def _sweep(self, writer: str) -> list[bytes]:
        """The notes of what was swept."""
        del self.leases[writer]
        swept = self._held.pop(writer, {}).values()
        for reservation in swept:
            self._free_slots(reservation.slots)
            self._funds.sweep(writer, reservation.funds)
        notes = [reservation.note for reservation in swept if reservation.note]
        if notes:
            self._left[writer] = [*self._left.get(writer, ()), *notes]
        return notes

    def _verdict(self, decision: Decision, ask: Ask, now_us: int, index: int = 0, wait: int = 0) -> Verdict:
        rates = self._rates.states(ask.rates, now_us)
        funds = [self._funds.state(claim.fund) for claim in ask.funds]
        return Verdict(decision, now_us, self.epoch, index, wait, rates, funds)

    def _report(self, writer: str, spent: Sequence[Spent], now_us: int) -> Report:
        funds = self._funds.take_over(writer, spent, now_us)
        return Report(self.leases.get(writer, 0) > now_us, now_us, self.epoch, funds)
