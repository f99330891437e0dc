"""Ids of keys are claimed in the store before the keys are made, so that of two processes one makes it."""

from __future__ import annotations

from collections.abc import Callable

from gateway.storage.interface import Records

CLAIM_S = 300.0
"""A claim outlasts its success: until then everybody has read the key that it was for."""


class Claims:
    """A claim is the digest of the key that is being made, or was a moment ago. All raise ``StoreLost``."""

    __slots__ = ("_records",)

    def __init__(self, records: Records) -> None:
        self._records = records

    async def take(self, tenant: str, id: str, digest: str, over: Callable[[str], bool]) -> bool:
        """Whether it was had. ``over``: whether the key of another claim, by its digest, has ended."""
        name, mine = _name(tenant, id), digest.encode()
        other = await self._records.put_new(name, mine, CLAIM_S)
        if other is None:
            return True
        return over(other.decode()) and await self._records.replace(name, other, mine, CLAIM_S)

    async def drop(self, tenant: str, id: str, digest: str) -> None:
        """Nothing was made by it."""
        await self._records.replace(_name(tenant, id), digest.encode(), None, 0)


def _name(tenant: str, id: str) -> str:
    """Neither holds a space."""
    return f"key-id:{tenant} {id}"
