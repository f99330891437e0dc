"""The names of everything in Redis.

``lg1`` is the version of the schema: whatever changes a script's arithmetic or a key's meaning raises it,
so that an old and a new version may run together. All of a tenant's keys lie in one slot of a cluster.
"""

from __future__ import annotations

from binascii import crc_hqx

from gateway.storage.interface import Fund

PREFIX = "lg1:"
BUS = PREFIX + "bus"
FLEET = PREFIX + "{fleet}:writers"
SLOTS = 16384


class TenantKeys:
    """The keys of one tenant as one writer uses them."""

    __slots__ = (
        "boot",
        "epoch",
        "left",
        "left_of",
        "prefix",
        "rate",
        "rebuild",
        "reservations",
        "reservations_of",
        "slot",
        "slot_number",
        "swept",
        "swept_of",
        "writers",
    )

    def __init__(self, tenant: str, writer: str) -> None:
        tag = tenant.replace("%", "%25").replace("{", "%7B").replace("}", "%7D")
        self.prefix = prefix = f"{PREFIX}{{{tag}}}:"
        self.slot_number = slot_number(prefix)
        self.epoch = prefix + "epoch"
        self.writers = prefix + "writers"
        self.boot = prefix + "boot"
        self.rebuild = prefix + "rebuild"
        self.reservations_of = prefix + "res:"
        self.reservations = self.reservations_of + writer
        self.swept_of = prefix + "swept:"
        self.swept = self.swept_of + writer
        self.left_of = prefix + "left:"
        self.left = self.left_of + writer
        self.rate = prefix + "r:"
        self.slot = prefix + "s:"

    def fund(self, fund: Fund) -> str:
        return f"{self.prefix}b:{fund.name}:{fund.start_s}"


def record(key: str) -> str:
    return f"{PREFIX}k:{key}"


def slot_number(key: str) -> int:
    """Of a cluster: that of the part in braces, if there is one."""
    start = key.find("{")
    if start >= 0:
        end = key.find("}", start + 1)
        if end > start + 1:
            key = key[start + 1 : end]
    return crc_hqx(key.encode(), 0) % SLOTS
