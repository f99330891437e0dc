"""Messages between processes of one machine: a length of four bytes, big-endian, then JSON."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson

LENGTH_BYTES = 4

Message = dict[str, Any]
"""``kind`` says what it is."""


async def read_frame(reader: asyncio.StreamReader) -> Message | None:
    """The next message, None when the other end is gone."""
    try:
        length = int.from_bytes(await reader.readexactly(LENGTH_BYTES), "big")
        message: Message = orjson.loads(await reader.readexactly(length))
    except (OSError, EOFError):
        return None
    return message


def frame(message: Message) -> bytes:
    text = orjson.dumps(message)
    return len(text).to_bytes(LENGTH_BYTES, "big") + text


def write_frame(writer: asyncio.StreamWriter, message: Message) -> None:
    """Queues it; what was not read from a connection that broke is lost."""
    if not writer.transport.is_closing():
        writer.write(frame(message))
