from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import InvalidRequest
from gateway.formats.json_body import MAX_VALUES, count_values, decode


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b'"text"',
        b"{",
        b"\xef\xbb\xbf{}",
        '{"a":1}'.encode("utf-16"),
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":1e400}',
        b'{"a":' + b"9" * 5000 + b"}",
        b'{"a":"\xff"}',
        b'{"a":"\\ud800"}',
        b'{"a":' + b"[" * 65 + b"]" * 65 + b"}",
        b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"a":[' + b"1," * MAX_VALUES + b"1]}",
    ],
)
async def test_refused(raw: bytes) -> None:
    with pytest.raises(InvalidRequest):
        await decode(raw)


async def test_deep_enough_and_wide_enough_bodies_pass() -> None:
    assert await decode(b'{"a":' + b"[" * 63 + b"]" * 63 + b"}")
    assert await decode(b'{"a":[' + b"{}," * 500 + b"{}]}")
    text = ',{["\\' * 200_000
    assert (await decode(json.dumps({"a": text}).encode()))["a"] == text


async def test_the_last_of_duplicate_keys_is_the_one() -> None:
    assert await decode(b'{"model":"cheap","model":"dear"}') == {"model": "dear"}


@given(st.recursive(st.text(max_size=6) | st.integers(0, 9), lambda inner: st.lists(inner, max_size=5)))
def test_values_in_strings_do_not_count(native: object) -> None:
    raw = json.dumps(native, ensure_ascii=False).encode()

    def separators(node: object) -> int:
        if not isinstance(node, list):
            return 0
        return 1 + max(0, len(node) - 1) + sum(map(separators, node))

    assert count_values(raw, False) == (separators(native), False)
