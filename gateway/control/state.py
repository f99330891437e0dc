"""Control state: kill switches, keys made by the API, revocations; and how what two have heard becomes one.

An entry speaks for one *slot* (a switch by scope and name, a key by its digest). Versions only grow and
are given once, so of two entries for a slot the later one holds, in whatever order they are heard of. What
has ended stays as an entry that says so: nobody who comes back with older knowledge can undo it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


@dataclass(slots=True, frozen=True)
class Switch:
    """A kill switch that was turned ``on`` or off. Times are seconds since the epoch."""

    scope: str
    name: str
    on: bool
    version: int
    changed_s: float
    reason: str = ""
    expires_s: float | None = None
    cut_streams: bool = False
    kind: Literal["switch"] = "switch"

    @property
    def slot(self) -> str:
        return f"switch:{self.scope}:{self.name}"

    def over(self, now_s: float) -> bool:
        return not self.on or (self.expires_s is not None and now_s >= self.expires_s)


@dataclass(slots=True, frozen=True)
class MadeKey:
    """A key made by the API. ``digest``: SHA-256 of the secret, hexadecimal. ``models``: None for all that
    the tenant has. ``cut``: what ran with it was ended when it was revoked."""

    tenant: str
    id: str
    digest: Digest
    version: int
    changed_s: float
    created_s: float
    expires_s: float | None = None
    revoked_s: float | None = None
    models: tuple[str, ...] | None = None
    tags: dict[str, str] = field(default_factory=dict)
    strict: bool = False
    cut: bool = False
    kind: Literal["key"] = "key"

    @property
    def slot(self) -> str:
        return f"key:{self.digest}"


@dataclass(slots=True, frozen=True)
class Override:
    """What the API has said of a key of the configuration: that it is revoked, or expires sooner."""

    tenant: str
    id: str
    digest: Digest
    version: int
    changed_s: float
    expires_s: float | None = None
    revoked_s: float | None = None
    cut: bool = False
    kind: Literal["override"] = "override"

    @property
    def slot(self) -> str:
        return f"override:{self.digest}"


Entry = Switch | MadeKey | Override
_ENTRY: TypeAdapter[Entry] = TypeAdapter(Annotated[Entry, Field(discriminator="kind")])


def encode(entry: Entry) -> bytes:
    return _ENTRY.dump_json(entry)


def decode(raw: bytes | str) -> Entry | None:
    """None for what this version does not understand."""
    try:
        return _ENTRY.validate_json(raw)
    except ValidationError:
        return None


class State:
    """All that is known; immutable, and swapped as a whole. ``version``: of the store, when it was read."""

    __slots__ = ("entries", "expiries", "keys", "revoked", "switches", "version")

    def __init__(self, version: int = 0, entries: Mapping[str, Entry] | None = None) -> None:
        self.version = version
        self.entries: Mapping[str, Entry] = {} if entries is None else entries
        self.switches: list[Switch] = []
        self.keys: dict[bytes, MadeKey] = {}
        self.revoked: set[bytes] = set()
        self.expiries: dict[bytes, float] = {}
        for entry in self.entries.values():
            self._index(entry)

    def _index(self, entry: Entry) -> None:
        if isinstance(entry, Switch):
            if entry.on:
                self.switches.append(entry)
            return
        digest = bytes.fromhex(entry.digest)
        if isinstance(entry, MadeKey):
            self.keys[digest] = entry
        elif entry.expires_s is not None:
            self.expiries[digest] = entry.expires_s
        if entry.revoked_s is not None:
            self.revoked.add(digest)

    @property
    def newest(self) -> int:
        """The largest version that is known."""
        return max((entry.version for entry in self.entries.values()), default=self.version)

    def later(self, entries: Iterable[Entry]) -> list[Entry]:
        """Those of ``entries`` that tell something new."""
        latest: dict[str, Entry] = {}
        for entry in entries:
            known = latest.get(entry.slot) or self.entries.get(entry.slot)
            if known is None or entry.version > known.version:
                latest[entry.slot] = entry
        return list(latest.values())

    def joined(self, later: Iterable[Entry], version: int) -> State:
        return State(version, {**self.entries, **{entry.slot: entry for entry in later}})
