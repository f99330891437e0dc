"""Where a gateway leaves something behind, and the ways in which a value may stand there."""

from __future__ import annotations

import base64
import re
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import orjson
import redis

from tests.e2e.operators import admin
from tests.e2e.rig import Gateway
from tests.storage.redis_server import RedisServer

HEARD_WITHIN_S = 5.0


def forms(value: str) -> Iterator[bytes]:
    """``value`` as it is, and as it looks in the encodings that hide it from a plain search."""
    raw = value.encode()
    yield raw
    yield raw.hex().encode()
    yield quote(value, safe="").encode()
    yield orjson.dumps(value)[1:-1]
    yield value.replace("@", "\\u0040").encode()
    yield re.sub(r"[ ()-]", "", value).encode()
    for lead in range(3):
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            encoded = encode(b"\0" * lead + raw)
            yield encoded[4 if lead else 0 : len(encoded) // 4 * 4 - 4]


class Monitor:
    """All that one Redis is told, by anybody."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self._heard = bytearray()
        self._socket = socket.create_connection(("127.0.0.1", server.port))
        self._socket.sendall(b"MONITOR\r\n")
        threading.Thread(target=self._listen, daemon=True).start()

    def heard(self) -> bytes:
        """Up to now."""
        mark = secrets.token_hex(16)
        self._server.command("ECHO", mark)
        until_s = time.monotonic() + HEARD_WITHIN_S
        while mark.encode() not in self._heard:
            assert time.monotonic() < until_s, "the monitor has stopped"
            time.sleep(0.01)
        return bytes(self._heard)

    def close(self) -> None:
        self._socket.close()

    def _listen(self) -> None:
        try:
            while block := self._socket.recv(1 << 16):
                self._heard += block
        except OSError:
            pass


def dump(server: RedisServer) -> bytes:
    """Every key and every value, as they are now."""
    held: list[bytes] = []
    with redis.Redis(port=server.port) as store:
        for key in store.scan_iter(count=1000):
            kind = store.type(key)
            value: object = {
                b"string": lambda key=key: store.get(key),
                b"hash": lambda key=key: store.hgetall(key),
                b"list": lambda key=key: store.lrange(key, 0, -1),
                b"set": lambda key=key: store.smembers(key),
                b"zset": lambda key=key: store.zrange(key, 0, -1, withscores=True),
                b"stream": lambda key=key: store.xrange(key),
            }[kind]()
            held += [key, value if isinstance(value, bytes) else repr(value).encode()]
    return b"\n".join(held)


async def operators_see(gateway: Gateway, tenant: str, request_ids: list[str]) -> dict[str, bytes]:
    """What the admin API answers at every path that can be read."""
    document = (await admin(gateway, "GET", "openapi.json")).json()
    paths = [path for path, methods in document["paths"].items() if "get" in methods]
    assert len(paths) > 5
    asked = []
    for path in paths:
        place = path.split("/admin/v1/")[-1].replace("{tenant}", tenant).replace("{id}", "ci")
        if place == "ledger":
            asked += [f"ledger?request_id={one}" for one in request_ids]
        else:
            asked.append(place)
    asked += ["spend?group_by=user,feature,model", "spend?group_by=tag:for"]
    return {place: (await admin(gateway, "GET", place)).body for place in asked}


def _read(file: Path) -> bytes:
    """Nothing where it is no file, or none any more."""
    try:
        return file.read_bytes() if file.is_file() else b""
    except FileNotFoundError:
        return b""


async def left_behind(gateway: Gateway, tenant: str) -> dict[str, bytes]:
    """All of it by place, but for what a store holds."""
    found = {str(file.relative_to(gateway.data_dir)): _read(file) for file in gateway.data_dir.rglob("*")}
    found |= {"stdout": gateway.stdout.read_bytes(), "stderr": gateway.stderr.read_bytes()}
    found["/metrics"] = (await gateway.metrics()).encode()
    request_ids = list(dict.fromkeys(row["request_id"] for row in gateway.rows()))[-20:]
    return found | await operators_see(gateway, tenant, request_ids)


Leak = tuple[str, bytes]
"""A place, and what it must not hold."""


def assert_without(found: dict[str, bytes], values: list[str], known: set[Leak] | None = None) -> None:
    """``known``: what was told before; what is told now is added."""
    known = set() if known is None else known
    leaks = {
        (place, form): f"{form!r} is in {place}: …{content[max(0, at - 80) : at + 80]!r}…"
        for value in values
        for form in dict.fromkeys(forms(value))
        for place, content in found.items()
        if (place, form) not in known and (at := content.find(form)) >= 0
    }
    known |= leaks.keys()
    assert not leaks, "\n".join(leaks.values())
