"""Small values by key in this process; those whose time is over are dropped by and by."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from math import inf

Value = bytes | dict[str, bytes]

MOST_BYTES = 64 << 20
"""Of single values; beyond it those that were put first are forgotten, unless they are kept for ever."""


class MemoryRecords:
    """``clock`` tells seconds. Every write sets the time to live anew."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kept: OrderedDict[str, tuple[Value, float]] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: str) -> bytes | None:
        value = self._value(key)
        if isinstance(value, dict):
            raise TypeError(f"{key} is a hash")
        return value

    def fields(self, key: str) -> dict[str, bytes]:
        value = self._value(key)
        if isinstance(value, bytes):
            raise TypeError(f"{key} is not a hash")
        return {} if value is None else value

    def put(self, key: str, value: Value, ttl_s: float) -> None:
        now_s = self._clock()
        if key in self._kept:
            self.drop(key)
        else:
            self._drop_old(now_s)
        self._kept[key] = (value, now_s + ttl_s if ttl_s else inf)
        self._bytes += _size(value)
        if self._bytes > MOST_BYTES:
            self._make_room()

    def put_fields(self, key: str, fields: Mapping[str, bytes], ttl_s: float) -> None:
        self.put(key, {**self.fields(key), **fields}, ttl_s)

    def drop(self, key: str) -> None:
        kept = self._kept.pop(key, None)
        if kept is not None:
            self._bytes -= _size(kept[0])

    def drop_fields(self, key: str, names: Sequence[str]) -> None:
        fields = self.fields(key)
        for name in names:
            fields.pop(name, None)
        if not fields:
            self.drop(key)

    def add(self, key: str, amount: int, ttl_s: float) -> int:
        total = int(self.get(key) or 0) + amount
        self.put(key, b"%d" % total, ttl_s)
        return total

    def _value(self, key: str) -> Value | None:
        kept = self._kept.get(key)
        if kept is None:
            return None
        if kept[1] <= self._clock():
            self.drop(key)
            return None
        return kept[0]

    def _drop_old(self, now_s: float) -> None:
        """Looks at the two keys that were looked at longest ago."""
        for _ in range(min(2, len(self._kept))):
            key, (_, until_s) = next(iter(self._kept.items()))
            if until_s > now_s:
                self._kept.move_to_end(key)
            else:
                self.drop(key)

    def _make_room(self) -> None:
        for key, (value, until_s) in list(self._kept.items()):
            if until_s != inf and _size(value):
                self.drop(key)
                if self._bytes <= MOST_BYTES:
                    return


def _size(value: Value) -> int:
    return len(value) if isinstance(value, bytes) else 0
