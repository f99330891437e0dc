"""What stands under an idempotency key: read back as it was written, and equal for equal requests."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.caching import records
from gateway.caching.records import Answer, Record

PRINT = records.fingerprint("chat", "m", {"model": "m"})
_NAMES = st.text("abcdefghij-", min_size=1).map(str.encode)


@given(
    st.integers(200, 299),
    st.booleans(),
    st.lists(st.binary(max_size=200), max_size=20),
    st.lists(st.tuples(_NAMES, _NAMES), max_size=3),
)
def test_an_answer_is_read_back(
    status: int, stream: bool, payloads: list[bytes], headers: list[tuple[bytes, bytes]]
) -> None:
    answer = Answer(status, stream, payloads, headers)
    assert records.read(records.done(PRINT, answer)) == Record(PRINT, answer)


def test_a_running_one_has_no_answer() -> None:
    assert records.read(records.running(PRINT, "writer:1")) == Record(PRINT)
    assert records.running(PRINT, "writer:1") != records.running(PRINT, "writer:2")


@pytest.mark.parametrize("raw", [b"", b"r", b"x" + PRINT, PRINT])
def test_what_is_no_record_is_refused(raw: bytes) -> None:
    with pytest.raises(ValueError):
        records.read(raw)


def test_fingerprints() -> None:
    one = {"a": 1, "b": {"c": [1, 2], "d": None}}
    same = {"b": {"d": None, "c": [1, 2]}, "a": 1}
    known = records.fingerprint("chat", "m", one)
    assert known == records.fingerprint("chat", "m", same)
    others = [
        records.fingerprint("text_completion", "m", one),
        records.fingerprint("chat", "n", one),
        records.fingerprint("chat", "m", {**one, "a": 2}),
        records.fingerprint("chat", "m", {**one, "b": {"c": [2, 1], "d": None}}),
        records.fingerprint("chat", "m", {**one, "e": None}),
    ]
    assert len({known, *others}) == len(others) + 1
