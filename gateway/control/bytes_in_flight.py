"""How many bytes of request bodies one process holds at a time."""

from __future__ import annotations

from gateway.errors import Unavailable

SHARE = 0.25


class BytesInFlight:
    """A budget that uploads share; what does not fit is refused before it is read.

    One tenant has at most a quarter of it, so that announced bodies which never come keep nobody else
    from uploading.
    """

    __slots__ = ("_of", "held", "most")

    def __init__(self, most: int) -> None:
        self.most = most
        self.held = 0
        self._of: dict[str, int] = {}

    def take(self, size: int, tenant: str) -> None:
        """Raises ``Unavailable`` and takes nothing when ``size`` bytes do not fit."""
        own = self._of.get(tenant, 0) + size
        if self.held + size > self.most or own > self.most * SHARE:
            raise Unavailable("Too many bytes are being uploaded at the moment.", retry_after_s=1)
        self._of[tenant] = own
        self.held += size

    def give(self, size: int, tenant: str) -> None:
        self.held -= size
        left = self._of.get(tenant, 0) - size
        if left > 0:
            self._of[tenant] = left
        else:
            self._of.pop(tenant, None)
