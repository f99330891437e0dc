"""The gateways that are compared, in the order of the table."""

from __future__ import annotations

from .direct import Direct
from .gateway import Gateway, WithLimits, WithRedaction, WithRedis
from .litellm import LiteLLM
from .nginx import Nginx
from .peer import Launch, NotInstalled, Peer
from .portkey import Portkey
from .tensorzero import TensorZero

__all__ = ["Launch", "NotInstalled", "Peer", "all_peers"]


def all_peers() -> list[Peer]:
    """One of each."""
    own = [Gateway(), WithLimits(), WithRedis(), WithRedaction()]
    return [Direct(), Nginx(), *own, TensorZero(), LiteLLM(), Portkey()]
