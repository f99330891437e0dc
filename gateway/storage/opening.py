"""Which store an URL means."""

from __future__ import annotations

from gateway.storage.interface import Store, StoreRefused
from gateway.storage.memory import Memory

REDIS_SCHEMES = ("redis", "rediss", "redis+cluster", "redis+sentinel")


def open_store(url: str, writer: str) -> Store:
    """``writer``: the stable id of this process. The store is not connected yet, see ``Store.start``.

    Raises ``StoreRefused`` for an URL that means no store.
    """
    scheme = url.partition("://")[0]
    if scheme == "memory":
        return Memory(writer)
    if scheme in REDIS_SCHEMES:
        from gateway.storage.redis import RedisStore  # only who uses Redis pays for its import

        return RedisStore(url, writer)
    known = ", ".join(f"{name}://" for name in ("memory", *REDIS_SCHEMES))
    raise StoreRefused(f"The storage URL begins with {scheme!r}; use one of {known}.")
