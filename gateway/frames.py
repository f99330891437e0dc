"""Messages between processes of one machine: a length of four bytes, big-endian, then JSON."""

from __future__ import annotations

import asyncio
from typing import Any, BinaryIO

import orjson

LENGTH_BYTES = 4

Message = dict[str, Any]
"""``kind`` says what it is."""


class FrameTooLong(ValueError):
    """A message is longer than its reader takes."""


async def read_frame(reader: asyncio.StreamReader, most_bytes: int | None = None) -> Message | None:
    """The next message, None when the other end is gone. Raises ``ValueError`` for what is no message or
    is longer than ``most_bytes``."""
    try:
        length = int.from_bytes(await reader.readexactly(LENGTH_BYTES), "big")
        if most_bytes is not None and length > most_bytes:
            raise FrameTooLong(f"a message of {length} bytes; at most {most_bytes} are taken")
        message: Message = orjson.loads(await reader.readexactly(length))
    except (OSError, EOFError):
        return None
    return message


def receive_frame(stream: BinaryIO) -> Message | None:
    """As ``read_frame``, and blocks."""
    length = stream.read(LENGTH_BYTES)
    text = stream.read(int.from_bytes(length, "big"))
    if not text:
        return None
    message: Message = orjson.loads(text)
    return message


def frame(message: Message) -> bytes:
    text = orjson.dumps(message)
    return len(text).to_bytes(LENGTH_BYTES, "big") + text


def write_frame(writer: asyncio.StreamWriter, message: Message) -> None:
    """Queues it; what was not read from a connection that broke is lost."""
    if not writer.transport.is_closing():
        writer.write(frame(message))
