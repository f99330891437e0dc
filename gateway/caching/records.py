"""What the store holds under an idempotency key: that an answer is in the making, or the answer.

One byte of kind, the request's fingerprint, then the owner's name, or a head in JSON and the payloads.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import Any

import orjson

_RUNNING, _DONE = b"r", b"d"
_DIGEST = hashlib.sha256().digest_size
_LENGTH = 4


@dataclass(slots=True)
class Answer:
    """A whole answer. ``payloads``: of its events where it is a stream, else its body alone.

    ``headers``: those that name who answered.
    """

    status: int
    stream: bool
    payloads: list[bytes]
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)


@dataclass(slots=True)
class Record:
    """``answer`` None: it is in the making. ``fingerprint``: of the request that it answers."""

    fingerprint: bytes
    answer: Answer | None = None


def fingerprint(operation: str, model: str, native: dict[str, Any], masked: bytes = b"") -> bytes:
    """Equal for equal requests, whatever the order of their fields; ``masked`` tells those apart that are
    equal only since personal data was taken out of them."""
    canonical = orjson.dumps([operation, model, native], option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(canonical + masked).digest()


def running(fingerprint: bytes, owner: str) -> bytes:
    return _RUNNING + fingerprint + owner.encode()


def done(fingerprint: bytes, answer: Answer) -> bytes:
    headers = [[name.decode("latin-1"), value.decode("latin-1")] for name, value in answer.headers]
    sizes = [len(payload) for payload in answer.payloads]
    head = orjson.dumps(
        {"status": answer.status, "stream": answer.stream, "headers": headers, "sizes": sizes}
    )
    length = len(head).to_bytes(_LENGTH, "big")
    return b"".join((_DONE, fingerprint, length, head, *answer.payloads))


def read(raw: bytes) -> Record:
    """Raises ``ValueError`` for what is no record."""
    known, rest = raw[1 : 1 + _DIGEST], raw[1 + _DIGEST :]
    if len(known) < _DIGEST or raw[:1] not in (_RUNNING, _DONE):
        raise ValueError("not a record of an idempotency key")
    if raw[:1] == _RUNNING:
        return Record(known)
    start = _LENGTH + int.from_bytes(rest[:_LENGTH], "big")
    head = orjson.loads(rest[_LENGTH:start])
    ends = accumulate(head["sizes"], initial=start)
    payloads = [rest[begin:end] for begin, end in pairwise(ends)]
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in head["headers"]]
    return Record(known, Answer(head["status"], head["stream"], payloads, headers))
