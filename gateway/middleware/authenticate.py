"""Who asks: the virtual key, and the cost tags that it and the headers name."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from gateway.control.keys import presented
from gateway.control.registry import Registry
from gateway.errors import Forbidden, InvalidRequest
from gateway.exchange import Exchange
from gateway.stage import Stage

MAX_TAGS = 16
_TAG = re.compile(rb"[A-Za-z0-9 ._:/@+-]{1,128}")


class Authenticate:
    """Needs the head alone: a bad key is refused before the body is read, and before a 404 or 405.

    ``known`` is told of an exchange as soon as it has a key."""

    def __init__(self, registry: Registry, known: Callable[[Exchange], None]) -> None:
        self._registry = registry
        self._known = known

    def begin(self, exchange: Exchange) -> Stage:
        return _Authentication(exchange, self._registry, self._known)


class _Authentication(Stage):
    __slots__ = ("_exchange", "_known", "_registry")

    def __init__(self, exchange: Exchange, registry: Registry, known: Callable[[Exchange], None]) -> None:
        self._exchange = exchange
        self._registry = registry
        self._known = known

    async def enter(self) -> None:
        exchange = self._exchange
        headers = exchange.client.headers
        key = await self._registry.find(presented(headers), exchange.snapshot)
        exchange.key = key
        self._known(exchange)
        if key.expired(time.time()):
            raise Forbidden("This API key has expired.", code="key_expired")
        if exchange.misrouted is not None:
            raise exchange.misrouted
        feature = headers.get(b"x-gateway-feature")
        if feature is not None:
            exchange.feature = _tag("x-gateway-feature", feature)
        user = headers.get(b"x-gateway-user")
        if user is not None:
            exchange.user = _tag("x-gateway-user", user)
        tags = headers.get(b"x-gateway-tags")
        if tags is not None:
            exchange.tags = _tags(tags)
        if key.tags:
            exchange.tags = {**exchange.tags, **key.tags}
            exchange.feature = key.tags.get("feature", exchange.feature)
            exchange.user = key.tags.get("user", exchange.user)


def _tag(header: str, value: bytes) -> str:
    if not _TAG.fullmatch(value):
        raise InvalidRequest(
            f"The header '{header}' takes 1 to 128 letters, digits, spaces and . _ : / @ + -",
            param=header,
        )
    return value.decode("ascii")


def _tags(value: bytes) -> dict[str, str]:
    tags = {}
    for pair in value.split(b","):
        name, equals, tag = pair.strip().partition(b"=")
        if not equals:
            raise InvalidRequest(
                "The header 'x-gateway-tags' takes name=value pairs, separated by commas.",
                param="x-gateway-tags",
            )
        tags[_tag("x-gateway-tags", name)] = _tag("x-gateway-tags", tag)
    if len(tags) > MAX_TAGS:
        raise InvalidRequest(f"At most {MAX_TAGS} tags are taken.", param="x-gateway-tags")
    return tags
