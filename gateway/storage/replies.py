"""What an error reply of Redis means, in words."""

from __future__ import annotations

_REASONS = {
    "LOADING": "is still loading its data",
    "OOM": "is out of memory; raise its maxmemory",
    "BUSY": "is busy with a script",
    "READONLY": "is a read-only replica; give the address of the master",
    "MASTERDOWN": "is a replica without its master",
    "MISCONF": "cannot write its snapshots to disk; look at its log",
    "NOREPLICAS": "has too few replicas to accept writes",
    "CLUSTERDOWN": "says that the cluster is down",
    "TRYAGAIN": "is moving this slot to another node",
    "MOVED": "says that another node has this slot",
    "ASK": "says that another node has this slot",
    "NOAUTH": "wants a password; write it into storage.url",
    "WRONGPASS": "refuses the password; correct it in storage.url",
    "NOPERM": "does not permit this user what the gateway needs; see the README",
    "NOSCRIPT": "forgot the scripts twice in a row",
    "DENIED": "is in protected mode; give it a password or bind it otherwise",
}
HARMLESS = frozenset({"ERR", "WRONGTYPE", "TRYAGAIN", "CROSSSLOT"})
"""The server answers, and would answer others: no sign that the store is lost."""
REFUSED = frozenset({"NOAUTH", "WRONGPASS", "DENIED"})
MOVED = frozenset({"MOVED", "ASK", "READONLY", "MASTERDOWN"})
"""Another server is to be asked."""


def kind(error: Exception) -> str:
    word = str(error).partition(" ")[0].rstrip(":")
    if word == "ERR" and ("AUTH" in str(error) or "invalid password" in str(error)):
        return "WRONGPASS"
    return "DENIED" if word == "-DENIED" else word


def reason(name: str, error: Exception) -> str:
    """One sentence; ``name``: host and port of the server."""
    known = _REASONS.get(kind(error))
    return f"Redis at {name} {known}." if known else f"Redis at {name} answered: {error}"
