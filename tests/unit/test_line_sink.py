"""Lines of several processes in one pipe."""

from __future__ import annotations

import os
import threading

from gateway.telemetry.sink import LineSink

WRITERS, LINES = 3, 3000


def read_all(fd: int, into: bytearray) -> None:
    while block := os.read(fd, 1 << 16):
        into += block


def test_lines_of_several_writers_stay_whole() -> None:
    """Much more than a pipe takes at once."""
    reading, writing = os.pipe()
    fds = [os.dup(writing) for _ in range(WRITERS)]
    os.close(writing)
    came = bytearray()
    reader = threading.Thread(target=read_all, args=(reading, came))
    sinks = [LineSink(fd, LINES, 1 << 24, lambda count: b"%d lost\n" % count) for fd in fds]
    sent = [
        b"%d-%d-" % (writer, number) + b"x" * (200 + 37 * number % 300) + b"\n"
        for writer in range(WRITERS)
        for number in range(LINES)
    ]
    for line in sent:
        sinks[int(line[:1])].put(line)
    reader.start()
    for sink, fd in zip(sinks, fds, strict=True):
        sink.close(20.0)
        os.close(fd)
    reader.join(20.0)
    os.close(reading)
    assert sorted(came.splitlines(keepends=True)) == sorted(sent)


def test_a_line_longer_than_a_pipe_takes_at_once_is_written() -> None:
    reading, writing = os.pipe()
    sink = LineSink(writing, 10, 1 << 20, lambda count: b"")
    sent = [b"a" * 5000 + b"\n", b"b\n", b"c" * 9000 + b"\n"]
    for line in sent:
        sink.put(line)
    sink.close(5.0)
    os.close(writing)
    came = bytearray()
    read_all(reading, came)
    os.close(reading)
    assert came == b"".join(sent)
