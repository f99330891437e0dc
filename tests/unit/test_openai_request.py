from __future__ import annotations

from typing import Any

import pytest

from gateway.errors import InvalidRequest
from gateway.exchange import Operation
from gateway.formats.openai_request import build, read

GOOD: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


def image(url: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("max_tokens", value) for value in (-1, 0, 2**63, True, "100", 1.5)],
        *[("n", value) for value in (0, 9, 1_000_000, True)],
        ("best_of", 9),
        ("logprobs", "yes"),
        ("top_logprobs", 21),
        ("stop", ["x"] * 17),
        ("stop", 1),
        ("tools", [{}] * 257),
        ("messages", [{"role": "user"}] * 2049),
        ("messages", "hi"),
        ("messages", []),
        ("messages", [1]),
        ("messages", [{"content": "no role"}]),
        ("messages", [{"role": "user", "content": 1}]),
        ("messages", [{"role": "user", "content": ["part"]}]),
        ("stream", "true"),
        ("stream_options", []),
        ("temperature", 3),
        ("temperature", True),
        ("model", ""),
        ("model", 1),
        ("api_base", "http://x"),
        ("base_url", "http://x"),
        ("api_key", "k"),
        ("extra_headers", {}),
        ("litellm_params", {}),
        ("messages", image("file:///etc/passwd")),
        ("messages", image("http://localhost/x")),
        ("messages", image("http://127.0.0.1/x")),
        ("messages", image("http://2130706433/x")),
        ("messages", image("http://0x7f.1/x")),
        ("messages", image("http://[::1]/x")),
        ("messages", image("http://[::ffff:127.0.0.1]/x")),
        ("messages", image("http://169.254.169.254/latest")),
        ("messages", image("http://[fe80::1]/x")),
        ("messages", image("ftp://example.com/x")),
    ],
)
def test_refused_with_the_name_of_the_field(field: str, value: Any) -> None:
    with pytest.raises(InvalidRequest) as raised:
        read(Operation.CHAT, {**GOOD, field: value})
    assert (raised.value.param or "").startswith(field)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_tokens", None),
        ("max_tokens", 1),
        ("something_new", {"deep": [1]}),
        ("stop", ["a", "b"]),
        ("logprobs", True),
        ("messages", image("https://example.com/a.png")),
        ("messages", image("data:image/png;base64,AAAA")),
        ("messages", [{"role": "user", "content": [{"type": "of_the_future", "x": 1}]}]),
        ("messages", [{"role": "assistant", "content": None, "tool_calls": []}]),
    ],
)
def test_passes(field: str, value: Any) -> None:
    request = read(Operation.CHAT, {**GOOD, field: value})
    assert request.native[field] == value


@pytest.mark.parametrize("value", ["text", ["a", "b"], [1, 2, 3], [[1], [2]]])
def test_inputs_of_embeddings(value: Any) -> None:
    assert read(Operation.EMBEDDING, {"model": "m", "input": value, "stream": True}).stream is False


@pytest.mark.parametrize("value", [None, "", [], 1, {}, ["a"] * 2049, [{}]])
def test_refused_inputs(value: Any) -> None:
    if value == "":
        assert read(Operation.EMBEDDING, {"model": "m", "input": value})
        return
    with pytest.raises(InvalidRequest):
        read(Operation.EMBEDDING, {"model": "m", "input": value})


IDS = "a string, an array of strings, an array of token ids, or an array of arrays of token ids."


@pytest.mark.parametrize(
    "value",
    [
        *([1, "a"], ["a", 1], [1, "a", "b"], [[1], "a"], ["a", [1]], [1, [1]], [[1], 1]),
        *([True], [1.5], [None], [{}], [1, True], [1, None]),
        *([[]], [[1], []], [["a"]], [[1, "a"]], [[1], [None]], [[[1]]], [[True]], [[{}]]),
    ],
)
def test_inputs_are_of_one_kind(value: Any) -> None:
    """What is mixed would be answered, and billed, in another number than it was counted in."""
    for operation, name in ((Operation.COMPLETION, "prompt"), (Operation.EMBEDDING, "input")):
        with pytest.raises(InvalidRequest) as raised:
            read(operation, {"model": "m", name: value})
        assert (raised.value.param, raised.value.message) == (name, f"'{name}' must be {IDS}")


@pytest.mark.parametrize("value", ["", "a", ["a", ""], [0], [1, 2] * 5000, [[1], [0, 2]]])
def test_prompts(value: Any) -> None:
    request = read(Operation.COMPLETION, {"model": "m", "prompt": value})
    assert request.native["prompt"] is value


def test_usage_is_asked_for_without_touching_what_the_client_sent() -> None:
    native = {**GOOD, "stream": True, "stream_options": {"x": 1}}
    request = read(Operation.CHAT, native)
    sent = build(request, "upstream", ask_usage=True)
    assert sent["stream_options"] == {"x": 1, "include_usage": True}
    assert sent["model"] == "upstream"
    assert native["stream_options"] == {"x": 1}
    assert build(request, "upstream", ask_usage=False)["stream_options"] == {"x": 1}


def test_the_larger_of_two_caps_is_what_an_answer_may_use() -> None:
    native = {**GOOD, "max_tokens": 9_000_000, "max_completion_tokens": 1}
    assert read(Operation.CHAT, native).max_output_tokens == 9_000_000
    native = {**GOOD, "max_tokens": 1, "max_completion_tokens": 5}
    assert read(Operation.CHAT, native).max_output_tokens == 5
