"""How many bytes of request bodies one process holds at a time."""

from __future__ import annotations

from gateway.errors import Unavailable


class BytesInFlight:
    """A budget that uploads share; what does not fit is refused before it is read."""

    __slots__ = ("held", "most")

    def __init__(self, most: int) -> None:
        self.most = most
        self.held = 0

    def take(self, size: int) -> None:
        """Raises ``Unavailable`` and takes nothing when ``size`` bytes do not fit."""
        if self.held + size > self.most:
            raise Unavailable("Too many bytes are being uploaded at the moment.", retry_after_s=1)
        self.held += size

    def give(self, size: int) -> None:
        self.held -= size
