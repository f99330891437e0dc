"""Any chunking of an event stream gives the same frames, whatever its line ends."""

from __future__ import annotations

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.exchange import ModelRequest, Operation
from gateway.formats import openai
from gateway.formats.sse import Splitter
from gateway.routing.answer import StreamAnswer

LINES = [
    b"data: a",
    b"data:b",
    b"data",
    b"data: \xe2\x80\xa8\xc2\x85",
    b": comment",
    b"event: x",
    b"id: 1",
    b"zz",
]
ENDS = [b"\n", b"\r", b"\r\n", b"\n\n", b"\r\n\r\n"]

streams = st.lists(st.sampled_from([*LINES, *ENDS]), max_size=40).map(b"".join)
lf_streams = st.lists(st.sampled_from([*LINES, b"\n", b"\n\n"]), max_size=40).map(b"".join)
cuts = st.lists(st.integers(1, 9), min_size=1, max_size=30)


def pieces(whole: bytes, sizes: list[int]) -> list[bytes]:
    """``whole`` cut by ``sizes``, repeated as often as needed."""
    out, at, turn = [], 0, 0
    while at < len(whole):
        size = sizes[turn % len(sizes)]
        out.append(whole[at : at + size])
        at, turn = at + size, turn + 1
    return out


def reference(stream: bytes) -> list[bytes]:
    """The event stream algorithm of the HTML standard, one line at a time over the whole text."""
    text = stream.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    events: list[bytes] = []
    values: list[bytes] = []
    for line in text.split(b"\n")[:-1]:
        name, _, value = line.partition(b":")
        if not line:
            events += [b"\n".join(values)] if values else []
            values = []
        elif name == b"data":
            values.append(value.removeprefix(b" "))
    return events


@settings(max_examples=400, deadline=None)
@given(stream=streams | lf_streams, sizes=cuts, bom=st.booleans())
def test_splitter_agrees_with_the_standard(stream: bytes, sizes: list[int], bom: bool) -> None:
    whole = (b"\xef\xbb\xbf" if bom else b"") + stream
    splitter = Splitter(10_000)
    found = [payload for piece in pieces(whole, sizes) for payload in splitter.feed(piece)]
    assert found == reference(whole)


texts = st.lists(st.text(max_size=12), min_size=1, max_size=8)


@settings(max_examples=200, deadline=None)
@given(texts=texts, sizes=cuts, end=st.sampled_from([b"\n", b"\r\n", b"\r"]), wants_usage=st.booleans())
def test_answers_do_not_depend_on_chunking(
    texts: list[str], sizes: list[int], end: bytes, wants_usage: bool
) -> None:
    whole = _stream(texts, end)
    expected = _relayed([whole], wants_usage)
    assert _relayed(pieces(whole, sizes), wants_usage) == expected
    said = "".join(
        orjson.loads(raw)["choices"][0]["delta"].get("content", "")
        for raw in expected[0]
        if b'"delta"' in raw
    )
    assert said == "".join(texts)
    assert expected[1] == (7, 3)
    assert any(b'"usage"' in raw for raw in expected[0]) == wants_usage


def _relayed(blocks: list[bytes], wants_usage: bool) -> tuple[list[bytes], tuple[int, int]]:
    request = ModelRequest(Operation.CHAT, "m", {}, stream=True, wants_usage=wants_usage)
    answer = StreamAnswer(request, 1 << 20)
    frames = [frame for block in blocks for frame in ([] if answer.complete else answer.feed(block))]
    assert answer.complete
    assert answer.usage is not None
    return [openai.payload(frame) for frame in frames], (answer.usage.input, answer.usage.output)


def _stream(texts: list[str], end: bytes) -> bytes:
    def chunk(delta: dict[str, str], finish: str | None = None) -> bytes:
        return orjson.dumps({"id": "c", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})

    payloads = [chunk({"role": "assistant", "content": ""})]
    payloads += [chunk({"content": text}) for text in texts]
    payloads.append(chunk({}, "stop"))
    payloads.append(orjson.dumps({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3}}))
    payloads.append(b"[DONE]")
    return b"".join(b"data: " + payload + end + end for payload in payloads)
