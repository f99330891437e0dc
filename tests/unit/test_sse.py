from __future__ import annotations

import pytest

from gateway.errors import UpstreamInvalidResponse
from gateway.formats.sse import Splitter


def test_an_event_beyond_the_cap_is_refused_before_it_is_whole() -> None:
    splitter = Splitter(100)
    with pytest.raises(UpstreamInvalidResponse):
        for _ in range(20):
            splitter.feed(b"data: 0123456789")


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n"])
def test_a_whole_event_beyond_the_cap_is_refused(end: bytes) -> None:
    with pytest.raises(UpstreamInvalidResponse):
        Splitter(100).feed(b"data: " + b"x" * 101 + end)


def test_many_small_events_in_one_block_are_below_the_cap() -> None:
    assert len(Splitter(100).feed(b"data: x\n\n" * 1000)) == 1000


def test_the_last_event_may_lack_its_blank_line() -> None:
    splitter = Splitter(100)
    assert splitter.feed(b"data: a\n\ndata: [DONE]") == [b"a"]
    assert splitter.flush() == [b"[DONE]"]
    assert splitter.flush() == []


def test_carriage_returns_after_line_feeds() -> None:
    splitter = Splitter(100)
    assert splitter.feed(b"data: a\n") == []
    assert splitter.feed(b"\ndata: b\r\n\r") == [b"a", b"b"]
    assert splitter.feed(b"\ndata: c\r\r") == [b"c"]


def test_a_long_event_in_single_bytes_takes_linear_time() -> None:
    splitter = Splitter(1 << 20)
    whole = b"data: " + b"x" * 200_000 + b"\r\n\r\n"
    found = [payload for i in range(len(whole)) for payload in splitter.feed(whole[i : i + 1])]
    assert [len(payload) for payload in found] == [200_000]
