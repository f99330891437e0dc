"""As much of HTTP/1.1 as a load generator needs: prepared requests, whole answers."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field

from .upstream import MARK, buffered_body

ANSWER_MARKS = buffered_body().count(MARK)
_LENGTH = re.compile(rb"\r\ncontent-length:\s*(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:\s*chunked", re.IGNORECASE)
_PROMPT = [
    {"role": "system", "content": "You are a terse assistant."},
    {"role": "user", "content": "Explain what a reverse proxy does, in one short paragraph."},
]


@dataclass(frozen=True)
class Target:
    """Where requests go, and what they must carry there."""

    port: int
    path: str = "/v1/chat/completions"
    headers: Mapping[str, str] = field(default_factory=dict)
    model_prefix: str = ""

    def body(self, model: str) -> bytes:
        """The JSON of a chat request; every model but ``bench`` is asked for a stream."""
        request: dict[str, object] = {
            "model": self.model_prefix + model,
            "messages": _PROMPT,
            "max_tokens": 1000,
            "temperature": 0.2,
        }
        if model != "bench":
            request["stream"] = True
        return json.dumps(request).encode()

    def request(self, model: str) -> bytes:
        """The bytes of a request."""
        body = self.body(model)
        head = [f"POST {self.path} HTTP/1.1", f"host: 127.0.0.1:{self.port}"]
        head += [f"{name}: {value}" for name, value in self.all_headers.items()]
        head += [f"content-length: {len(body)}", "", ""]
        return "\r\n".join(head).encode() + body

    @property
    def all_headers(self) -> dict[str, str]:
        return {"content-type": "application/json", "accept": "*/*", **self.headers}


@dataclass(frozen=True)
class Answer:
    """A whole answer; ``marks`` counts the fake provider's words in it."""

    status: int
    body: bytes

    @property
    def marks(self) -> int:
        return self.body.count(MARK)

    @property
    def good(self) -> bool:
        """Whether this is the fake provider's buffered answer, complete."""
        return self.status == 200 and self.marks == ANSWER_MARKS


def read_answer(data: bytes) -> Answer | None:
    """The answer that ``data`` holds, or None while it is incomplete."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return None
    status, start = int(data[9:12]), end + 4
    if found := _LENGTH.search(data, 0, end):
        length = int(found[1])
        return Answer(status, data[start:]) if len(data) - start >= length else None
    if _CHUNKED.search(data, 0, end + 2):
        return Answer(status, _unchunk(data, start)) if data.endswith(b"\r\n0\r\n\r\n") else None
    return None


def _unchunk(data: bytes, at: int) -> bytes:
    parts = []
    while True:
        line = data.index(b"\r\n", at)
        size = int(data[at:line].partition(b";")[0], 16)
        if not size:
            return b"".join(parts)
        parts.append(data[line + 2 : line + 2 + size])
        at = line + size + 4


def ask(target: Target, request: bytes, timeout_s: float) -> Answer:
    """One request on a connection of its own. Raises OSError if there is no whole answer."""
    with socket.create_connection(("127.0.0.1", target.port), timeout_s) as connection:
        connection.sendall(request)
        data = b""
        while True:
            part = connection.recv(65536)
            data += part
            if (answer := read_answer(data)) is not None:
                return answer
            if not part:
                raise ConnectionError(f"the answer ended early: {data[:200]!r}")
