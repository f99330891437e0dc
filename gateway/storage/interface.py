"""The contract of a store: what processes share, and nothing of how.

Three parts. ``Admissions`` counts limits and money, in scripts that are atomic for a tenant. ``Records``
keeps small values. ``Bus`` carries messages, which may be lost.

A *writer* is one process with a stable id. In an admission its claims are checked together, and taken
all or not at all; what is taken stands in a *reservation*, named by the writer and a number, until it is
settled. Whatever is repeated is counted once: a reservation by its number, money spent by the writer's
own total, which only grows within a period.

A writer is known to a tenant's counters while its lease runs (``LEASE_S``, renewed by each of its
admissions and by ``renew``). Whoever renews also sweeps: when another writer's lease has run out, its
slots are freed, and what it had reserved counts as spent, until it comes back and ``register`` s what is
true. A store that has lost its memory knows no writer; so everybody registers again, and that is the
rebuild.

Times are the store's own, in microseconds since the epoch. Money is in nano-dollars. All methods raise
``StoreLost`` when the store cannot be asked, after at most about 100 ms; it is then unknown whether the
command was carried out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

LEASE_S = 15
RENEW_S = 5
REBUILD_S = 2.5
"""After a loss of memory budgets wait this long, so that every writer has time to register: two probes of a
lost store, or a connection for messages that is made again."""
REBUILD = "rebuild"
"""The topic under which a tenant is named whose counters somebody has found empty."""
MISSED = "missed"
"""The topic of a message that a process hears when it may have missed some."""
MAX_NANOUSD = 2**63 - 1


class StoreLost(Exception):
    """The store cannot be asked; the message says why, for the log."""


@dataclass(slots=True)
class RateClaim:
    """``cost`` units of ``limit`` a minute (GCRA: a burst of ``limit``, then a steady refill)."""

    counter: str
    limit: int
    cost: int


@dataclass(slots=True)
class SlotClaim:
    """One of ``limit`` places, held until the reservation is settled."""

    counter: str
    limit: int


@dataclass(slots=True, frozen=True)
class Fund:
    """A budget in one period: from ``start_s`` up to ``end_s`` (epoch seconds; 0: it has no end)."""

    name: str
    limit_nanousd: int
    start_s: int
    end_s: int


@dataclass(slots=True)
class FundClaim:
    fund: Fund
    amount_nanousd: int


@dataclass(slots=True)
class Ask:
    """What one request wants of ``tenant``. ``number``: of the reservation, unique to the writer.
    ``note``: kept with the reservation (where it has slots or funds), for whoever sweeps it."""

    tenant: str
    number: int
    rates: Sequence[RateClaim] = ()
    slots: Sequence[SlotClaim] = ()
    funds: Sequence[FundClaim] = ()
    note: bytes = b""


@dataclass(slots=True)
class RateState:
    """``remaining`` units could be had at once; after ``reset_us`` the whole limit could."""

    remaining: int
    reset_us: int


@dataclass(slots=True)
class FundState:
    """``used_nanousd``: spent and reserved together."""

    spent_nanousd: int
    used_nanousd: int


Decision = Literal["admitted", "rate", "slot", "spent", "reserved", "period", "register", "wait"]


@dataclass(slots=True)
class Verdict:
    """What became of an ``Ask``; anything but ``admitted`` has taken nothing.

    ``rate``, ``slot``, ``spent`` and ``reserved``: refused by the claim at ``index`` of its kind; for a
    rate, ``wait_us`` later the cost would fit (0: never, for it exceeds the limit); ``spent``: what is
    spent leaves too little, ``reserved``: only what is reserved at the moment does.
    ``period``: the fund at ``index`` is not of the time ``time_us``. ``register``: this writer is not
    known, or no longer. ``wait``: the counters are being rebuilt for another ``wait_us``.

    ``epoch``: the tenant's, see ``Records.bump``. ``rates`` and ``funds``: of the claims, in their order,
    after what was decided; empty for ``period``, ``register`` and ``wait``.
    """

    decision: Decision
    time_us: int
    epoch: int
    index: int = 0
    wait_us: int = 0
    rates: list[RateState] = field(default_factory=list)
    funds: list[FundState] = field(default_factory=list)


@dataclass(slots=True)
class Settled:
    """One reservation's end. ``corrections``: for each rate whose cost turned out otherwise, the claim
    and the difference (true cost − claimed cost, of either sign)."""

    number: int
    corrections: Sequence[tuple[RateClaim, int]] = ()


@dataclass(slots=True, frozen=True)
class Spent:
    """All that this writer has spent of a fund, up to now."""

    fund: Fund
    total_nanousd: int


@dataclass(slots=True)
class Report:
    """``known``: the writer's lease ran; if not, it must register. ``funds``: in the order of ``Spent``.
    ``swept``: the notes of the reservations that ``renew`` has just swept; from ``register``, of those that
    this writer had and that are not open any more, also if others have swept them."""

    known: bool
    time_us: int
    epoch: int
    funds: list[FundState]
    swept: list[bytes] = field(default_factory=list)


class Admissions(Protocol):
    async def admit(self, ask: Ask) -> Verdict: ...

    async def settle(self, tenant: str, ended: Sequence[Settled], spent: Sequence[Spent]) -> Report:
        """Frees reservations (a number that is not there is passed over, with its corrections) and takes
        over the writer's totals where they are larger than what is known, in one step."""
        ...

    async def register(
        self, tenant: str, open: Sequence[Ask], spent: Sequence[Spent], *, lost: bool
    ) -> Report:
        """Makes this writer known: its reservations are ``open`` and no others, without being checked
        against any limit; what a sweep counted as spent for it is taken back; its totals are ``spent``.
        ``lost``: it was known before, so if the store knows nothing of the tenant it has lost its memory,
        and budgets wait ``REBUILD_S``."""
        ...

    async def renew(self, tenant: str) -> Report:
        """Renews the lease if it still runs, and sweeps writers whose lease has run out. ``funds`` is
        empty."""
        ...

    async def fund_states(self, tenant: str, funds: Sequence[Fund]) -> list[FundState]:
        """Reads; changes nothing."""
        ...

    async def fleet(self) -> int:
        """Says that this writer lives (for ``LEASE_S``); how many do, itself included."""
        ...


class Records(Protocol):
    """Small values by key. ``ttl_s`` 0: for ever. Keys that one call names need not lie together."""

    async def get(self, key: str) -> bytes | None: ...

    async def put(self, key: str, value: bytes, ttl_s: float) -> None: ...

    async def put_new(self, key: str, value: bytes, ttl_s: float) -> bytes | None:
        """None: it was put. Else the value that was there already, which stays."""
        ...

    async def replace(self, key: str, expected: bytes, value: bytes | None, ttl_s: float) -> bool:
        """Puts ``value`` (None: deletes the key) if ``expected`` is there; whether it was."""
        ...

    async def fields(self, key: str) -> dict[str, bytes]:
        """A hash; empty when it is not there."""
        ...

    async def put_fields(self, key: str, fields: Mapping[str, bytes], ttl_s: float) -> None:
        """Sets these fields and leaves the others."""
        ...

    async def drop_fields(self, key: str, names: Sequence[str]) -> None: ...

    async def add(self, key: str, amount: int, ttl_s: float) -> int:
        """An integer that starts at 0; the new value."""
        ...

    async def bump(self, tenants: Sequence[str]) -> None:
        """Raises the epoch of each tenant, which every later ``Verdict`` of it carries."""
        ...


Heard = Callable[[str, bytes], None]
"""Called on the event loop with topic and message."""


class Bus(Protocol):
    async def publish(self, topic: str, message: bytes) -> None:
        """To every process, this one included."""
        ...

    def listen(self, heard: Heard) -> None:
        """From now on all messages come to ``heard``, too."""
        ...


class Store(Admissions, Records, Bus, Protocol):
    """``writer``: this process. ``lost``: why the store cannot be asked just now, None if it can.

    ``shared``: whether other processes see the same store. ``warnings``: what ``start`` found unwise
    about it, for people.
    """

    writer: str
    shared: bool
    warnings: list[str]

    @property
    def lost(self) -> str | None: ...

    def on_behalf(self, writer: str) -> Admissions:
        """As another writer, which must not be alive: for whoever settles what it left."""
        ...

    def on_change(self, changed: Callable[[str | None], None]) -> None:
        """``changed`` hears of it when ``lost`` becomes or ceases to be None."""
        ...

    async def start(self) -> None:
        """Connects. Does not raise ``StoreLost``: it is tried again later. Raises ``StoreRefused``."""
        ...

    async def aclose(self) -> None: ...


class StoreRefused(Exception):
    """The store can be reached and cannot be used (a wrong password, say); the message says what to do."""
