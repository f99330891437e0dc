"""The Lua scripts, each atomic for one tenant; sent by hash, and whole to a server that forgot them."""

from __future__ import annotations

from hashlib import sha1
from pathlib import Path
from typing import NamedTuple

_LUA = Path(__file__).parent / "lua"


class Script(NamedTuple):
    source: str
    digest: str


def _load(name: str) -> Script:
    source = "\n".join((_LUA / f"{part}.lua").read_text(encoding="utf-8") for part in ("common", name))
    return Script(source, sha1(source.encode(), usedforsecurity=False).hexdigest())


ADMIT = _load("admit")
SETTLE = _load("settle")
REGISTER = _load("register")
RENEW = _load("renew")
FUNDS = _load("funds")
FLEET = _load("fleet")
PUT_NEW = _load("put_new")
REPLACE = _load("replace")
PUT_FIELDS = _load("put_fields")
ADD = _load("add")
