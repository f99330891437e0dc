"""What a Redis URL says: where, as whom, and by which way of finding the server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal
from urllib.parse import SplitResult, unquote, urlsplit

from gateway.storage.interface import StoreRefused

ANSWER_S = 0.1
Address = tuple[str, int]
Kind = Literal["single", "cluster", "sentinel"]
_KINDS: dict[str, Kind] = {
    "redis": "single",
    "rediss": "single",
    "redis+cluster": "cluster",
    "redis+sentinel": "sentinel",
}
_NO_ADDRESS = "The storage URL has no proper HOST:PORT; write redis://HOST:6379/0, say."
_PORTS = {"single": 6379, "cluster": 6379, "sentinel": 26379}


@dataclass(slots=True, frozen=True)
class RedisTarget:
    """``addresses``: of the server, of some of the cluster's nodes, or of the sentinels of ``service``.
    ``answer_s``: how long a connection, or an answer, may take."""

    kind: Kind
    addresses: tuple[Address, ...]
    user: str = ""
    password: str = ""
    db: int = 0
    tls: bool = False
    service: str = ""
    answer_s: float = ANSWER_S


def parse(url: str, answer_s: float = ANSWER_S) -> RedisTarget:
    """Raises ``StoreRefused`` without repeating the URL, for it may hold a password."""
    parts = _split(url)
    kind = _KINDS[parts.scheme]
    credentials, _, hosts = parts.netloc.rpartition("@")
    user, _, password = credentials.partition(":")
    service, db = _path(kind, parts)
    return RedisTarget(
        kind=kind,
        addresses=tuple(_address(host, _PORTS[kind]) for host in hosts.split(",")),
        user=unquote(user),
        password=unquote(password),
        db=db,
        tls=parts.scheme == "rediss",
        service=service,
        answer_s=answer_s,
    )


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
    except ValueError:
        raise StoreRefused(_NO_ADDRESS) from None
    if parts.query or parts.fragment:
        raise StoreRefused(
            "The storage URL takes nothing after ? or #; leave it out, and write these two in a password"
            " as %3F and %23."
        )
    return parts


def _path(kind: Kind, parts: SplitResult) -> tuple[str, int]:
    """The sentinels' service and the number of the database."""
    steps = [unquote(step) for step in parts.path.split("/") if step]
    service = ""
    if kind == "sentinel":
        if not steps:
            raise StoreRefused(
                "The storage URL names no service; write redis+sentinel://HOST:PORT/SERVICE."
            )
        service = steps.pop(0)
    number = steps.pop(0) if steps else "0"
    if steps or not number.isdecimal():
        raise StoreRefused("The storage URL ends in no database number; write redis://HOST:PORT/0, say.")
    if kind == "cluster" and number != "0":
        raise StoreRefused("A Redis Cluster has database 0 only; leave the number out of the storage URL.")
    return service, int(number)


def _address(text: str, port: int) -> Address:
    host, colon, number = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, number = text, str(port)
    host = host.removeprefix("[").removesuffix("]")
    if not host or not number.isdecimal() or not 0 < int(number) < 65536:
        raise StoreRefused(_NO_ADDRESS)
    return host, int(number)
