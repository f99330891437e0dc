from __future__ import annotations

import asyncio
import logging
import os
import re
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import orjson
import pytest

from gateway.errors import UpstreamError
from gateway.telemetry.lines import MAX_LINE_BYTES, MAX_VALUE_BYTES
from gateway.telemetry.log import Log
from gateway.telemetry.stdlib import LogHandler

SECRET = b"sk-live-0123456789abcdef"


class Pipe:
    """A log into a pipe, and what came out of it."""

    def __init__(self, **options: Any) -> None:
        self._read, self.write_fd = os.pipe()
        self.log = Log(self.write_fd, **options)

    def raw(self) -> bytes:
        self.log.close(2)
        os.close(self.write_fd)
        with os.fdopen(self._read, "rb") as reader:
            return reader.read()

    def lines(self) -> list[dict[str, Any]]:
        raw = self.raw()
        assert raw == b"" or raw.endswith(b"\n")
        return [orjson.loads(line) for line in raw.splitlines()]


@pytest.fixture
def pipe() -> Pipe:
    return Pipe(clock=lambda: 1_767_225_600.0419)


def test_an_event_is_one_json_line(pipe: Pipe) -> None:
    pipe.log.event("request", tenant="acme", n=1, part=0.5, ok=True, user=None, name="x")
    assert pipe.lines() == [
        {
            "ts": "2026-01-01T00:00:00.041Z",
            "level": "info",
            "event": "request",
            "tenant": "acme",
            "n": 1,
            "part": 0.5,
            "ok": True,
            "user": None,
            "name": "x",
        }
    ]


def test_events_below_the_level_are_not_written() -> None:
    pipe = Pipe(level="warning")
    for level in ("debug", "info", "warning", "error", "fatal"):
        pipe.log.event("e", level=level)
    assert [line["level"] for line in pipe.lines()] == ["warning", "error", "fatal"]


INJECTIONS = [
    'x\n{"level":"fatal"}',
    "\x1b[31mred\x1b[0m",
    "\x9b31m c1",
    "\x7f\x00\r\t",
    "\u2028\u2029 lines",
    "\u202e\u2066 bidi \u200f",
    "\ud800 alone",
]


@pytest.mark.parametrize("text", INJECTIONS, ids=ascii)
def test_a111_no_text_acts_on_the_reader(pipe: Pipe, text: str) -> None:
    pipe.log.event("request", model=text)
    raw = pipe.raw()
    assert raw.count(b"\n") == 1
    visible = raw[:-1].decode()
    assert not re.search("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]", visible)
    assert orjson.loads(raw)["model"] == text.replace("\ud800", "?")


def test_a111_a_megabyte_is_cut(pipe: Pipe) -> None:
    pipe.log.event("request", model="ä" * 1_000_000, request_id="r-1")
    (line,) = pipe.lines()
    assert len(line["model"].encode()) <= MAX_VALUE_BYTES
    assert line["model"].endswith("ä…")
    assert line["request_id"] == "r-1"


@pytest.mark.parametrize("length", [511, 512, 513, 2047, 2048, 2049])
@pytest.mark.parametrize("char", ["a", "ä", "語", "🎉"])
def test_values_are_cut_at_two_kilobytes(length: int, char: str) -> None:
    pipe = Pipe()
    pipe.log.event("e", text=char * length)
    (line,) = pipe.lines()
    whole = length * len(char.encode()) <= MAX_VALUE_BYTES
    assert (line["text"] == char * length) == whole
    assert len(line["text"].encode()) <= MAX_VALUE_BYTES


@pytest.mark.parametrize("fields", [12, 60, 3000])
def test_a_line_is_cut_at_sixteen_kilobytes(pipe: Pipe, fields: int) -> None:
    pipe.log.event("request", request_id="r-1", **{f"f{n}": "\x01" * 1500 for n in range(fields)})
    raw = pipe.raw()
    assert len(raw) <= MAX_LINE_BYTES
    assert orjson.loads(raw)["request_id"] == "r-1"


def test_bodies_are_never_written(pipe: Pipe) -> None:
    pipe.log.event("e", body={"secret": 1}, items=["x"], usd=Decimal("0.10"), raw=b"ok\xff", n=2**70)
    (line,) = pipe.lines()
    assert line["body"] == "<dict>" and line["items"] == "<list>"
    assert line["usd"] == "0.10" and line["raw"] == "ok\ufffd" and line["n"] == str(2**70)


def failure_of(text: str) -> Exception:
    try:
        try:
            raise ValueError(f"inner {text}")
        except ValueError as error:
            raise UpstreamError("public", detail=f"said {text}") from error
    except UpstreamError as error:
        return error


def test_a_failure_tells_the_chain_in_one_line(pipe: Pipe) -> None:
    pipe.log.failure("upstream", failure_of("why"), request_id="r-1")
    (line,) = pipe.lines()
    assert line["level"] == "error" and line["error_type"] == "UpstreamError"
    assert line["detail"] == "said why" and line["request_id"] == "r-1"
    assert "ValueError: inner why" in line["traceback"] and "direct cause" in line["traceback"]


@pytest.mark.parametrize("padding", [0, 1990, 2040, 5000])
def test_a97_secrets_are_scrubbed_before_anything_is_cut(pipe: Pipe, padding: int) -> None:
    pipe.log.set_secrets([SECRET, b""])
    text = "x" * padding + SECRET.decode()
    pipe.log.failure("upstream", failure_of(text), url=f"https://h/?key={SECRET.decode()}")
    raw = pipe.raw()
    assert b"sk-live" not in raw and b"0123456789" not in raw
    assert b"***" in raw


def test_an_exception_that_cannot_be_told_is_still_logged(pipe: Pipe) -> None:
    class BadError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no")

    pipe.log.failure("odd", BadError())
    (line,) = pipe.lines()
    assert line["error_type"] == "BadError"


def test_x182_a_blocked_sink_blocks_nobody_and_drops_are_counted() -> None:
    pipe = Pipe(max_lines=100)
    started = time.perf_counter()
    for _ in range(20_000):
        pipe.log.event("e", pad="x" * 100)
    assert time.perf_counter() - started < 5
    dropped = pipe.log.dropped
    assert dropped > 10_000
    received: list[bytes] = []

    def read() -> None:
        while chunk := os.read(pipe._read, 65536):
            received.append(chunk)

    reader = threading.Thread(target=read)
    reader.start()
    pipe.log.close(5)
    os.close(pipe.write_fd)
    reader.join(5)
    lines = [orjson.loads(line) for line in b"".join(received).splitlines()]
    told = sum(line["count"] for line in lines if line["event"] == "log_lines_dropped")
    assert told == pipe.log.dropped == dropped
    assert sum(line["event"] == "e" for line in lines) + told == 20_000


def test_closing_on_a_blocked_sink_gives_up() -> None:
    pipe = Pipe()
    for _ in range(3_000):
        pipe.log.event("e", pad="x" * 100)
    started = time.monotonic()
    pipe.log.close(0.2)
    assert time.monotonic() - started < 1
    pipe.log.event("late")
    assert pipe.log.dropped > 0
    os.close(pipe._read)
    os.close(pipe.write_fd)


def test_a_nonblocking_sink_is_waited_for() -> None:
    pipe = Pipe()
    os.set_blocking(pipe.write_fd, False)
    for n in range(5_000):
        pipe.log.event("e", n=n, pad="x" * 100)
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.extend(iter(lambda: os.read(pipe._read, 65536), b"")))
    reader.start()
    pipe.log.close(5)
    os.close(pipe.write_fd)
    reader.join(5)
    lines = [orjson.loads(line) for line in b"".join(received).splitlines()]
    assert [line for line in lines if "n" not in line] == []
    assert [line["n"] for line in lines] == list(range(5_000))
    os.close(pipe._read)


def test_x182_a_broken_sink_fails_nobody() -> None:
    pipe = Pipe()
    os.close(pipe._read)
    pipe.log.event("one")
    deadline = time.monotonic() + 3
    while not pipe.log.dropped and time.monotonic() < deadline:
        time.sleep(0.01)
    assert pipe.log.dropped == 1
    pipe.log.event("two")
    pipe.log.close(2)
    assert pipe.log.dropped == 2
    os.close(pipe.write_fd)


def test_after_a_break_a_line_starts_anew_and_tells_what_was_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pipe = Pipe()
    real = os.write
    calls: list[int] = []

    def flaky(fd: int, content: bytes) -> int:
        calls.append(fd)
        if len(calls) == 1:
            return real(fd, content[:7])
        if len(calls) in {2, 3}:
            raise OSError(5, "I/O error")
        return real(fd, content)

    monkeypatch.setattr("gateway.telemetry.sink.os.write", flaky)
    for n in range(3):
        pipe.log.event("e", n=n)
        time.sleep(0.3)
    first, *rest = pipe.raw().splitlines()
    assert len(first) == 7
    assert [orjson.loads(line).get("count") for line in rest] == [2, None]
    assert pipe.log.dropped == 2


def test_lines_of_many_threads_stay_whole(pipe: Pipe) -> None:
    def work(n: int) -> None:
        for i in range(200):
            pipe.log.event("e", thread=n, i=i)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = pipe.lines()
    for n in range(4):
        assert [line["i"] for line in lines if line["thread"] == n] == list(range(200))


@pytest.fixture
def routed(pipe: Pipe) -> Iterator[Pipe]:
    restore = pipe.log.install_stdlib()
    yield pipe
    restore()


def test_standard_logging_comes_as_json(routed: Pipe) -> None:
    logging.getLogger("uvicorn.error").info("started %s\x1b[0m", "now")
    logging.getLogger("uvicorn.access").info("GET /")
    logging.getLogger("httpx").info("HTTP Request")
    logging.getLogger("a.b").debug("quiet")
    misfit = logging.LogRecord("a.b", logging.WARNING, "f", 1, "%d", ("no number",), None)
    LogHandler(routed.log).emit(misfit)
    lines = routed.lines()
    assert [(line["logger"], line["level"], line["message"]) for line in lines] == [
        ("uvicorn.error", "info", "started now\x1b[0m"),
        ("a.b", "warning", "%d"),
    ]


def test_exceptions_of_standard_logging_are_scrubbed(routed: Pipe) -> None:
    routed.log.set_secrets([SECRET])
    try:
        raise ValueError(SECRET.decode())
    except ValueError:
        logging.getLogger("asyncio").exception("failed with %s", SECRET.decode())
    raw = routed.raw()
    assert SECRET not in raw
    assert orjson.loads(raw)["message"] == "failed with ***"


def test_warnings_and_dying_threads_come_as_json(routed: Pipe) -> None:
    def die() -> None:
        raise ValueError("gone")

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old", stacklevel=1)
    thread = threading.Thread(target=die, name="t-1")
    thread.start()
    thread.join()
    warned, died = routed.lines()
    assert warned["logger"] == "py.warnings" and "old" in warned["message"]
    assert died["event"] == "thread_died" and died["thread"] == "t-1"


async def test_asyncio_complaints_come_as_json(routed: Pipe) -> None:
    asyncio.get_running_loop().call_exception_handler({"message": "lost", "exception": ValueError("why")})
    (line,) = routed.lines()
    assert line["logger"] == "asyncio" and line["error_type"] == "ValueError"


def test_what_was_installed_can_be_undone(pipe: Pipe) -> None:
    before = (logging.getLogger().handlers[:], logging.getLogger().level)
    hooks = (threading.excepthook, sys.unraisablehook)
    pipe.log.install_stdlib()()
    assert (logging.getLogger().handlers[:], logging.getLogger().level) == before
    assert (threading.excepthook, sys.unraisablehook) == hooks
    assert pipe.raw() == b""
