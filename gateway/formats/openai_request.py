"""Requests in the OpenAI wire format: what is checked before anything is spent on them."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from itertools import chain
from typing import Any
from unicodedata import normalize
from urllib.parse import urlsplit

from gateway.errors import InvalidRequest
from gateway.exchange import ModelRequest, Operation

MAX_MESSAGES = 2048
MAX_PARTS = 2048
MAX_TOOLS = 256
MAX_STOP = 16
MAX_CHOICES = 8
MAX_INPUTS = 2048
_MAX_TOKENS = 10_000_000
_CAPS = ("max_completion_tokens", "max_tokens")

STEERING = frozenset(
    """
    api_base api_key api_type api_version aws_access_key_id aws_secret_access_key aws_session_token
    azure_ad_token base_url custom_llm_provider default_headers extra_body extra_headers extra_query
    fallbacks headers mock_response organization vertex_credentials vertex_project
    """.split()
)
"""Fields by which clients of other gateways choose where a request goes: here only the operator does."""

Check = Callable[[str, Any], None]
_AMBIGUOUS = re.compile(r"[\x00-\x1f\x7f\\]")
"""Characters that some parsers drop, and others read as the end of the host."""
_NUMBER = re.compile(r"[0-9]+|0[xX][0-9a-fA-F]*")


def read(operation: Operation, native: dict[str, Any]) -> ModelRequest:
    """Checks ``native`` and returns the request; raises ``InvalidRequest`` with the field's name."""
    for name, value in native.items():
        check = _CHECKS.get(name)
        if check is not None:
            if value is not None:
                check(name, value)
        elif name.lower() in STEERING or name.startswith("litellm_"):
            raise InvalidRequest(
                f"'{name[:64]}' is not accepted: where requests go is configured at the gateway.",
                param=name[:64],
            )
    model = native.get("model")
    if not isinstance(model, str) or not model:
        raise InvalidRequest("'model' must name a model.", param="model")
    _REQUIRED[operation](native)
    caps = [native[name] for name in _CAPS if native.get(name)]  # who knows which one a provider heeds
    options = native.get("stream_options") or {}
    return ModelRequest(
        operation=operation,
        model=model,
        native=native,
        stream=operation is not Operation.EMBEDDING and native.get("stream") is True,
        wants_usage=options.get("include_usage") is True,
        max_output_tokens=max(caps, default=None),
        choices=max(native.get("n") or 1, native.get("best_of") or 1),
    )


def build(
    request: ModelRequest, model: str, *, ask_usage: bool, cap_field: str = "max_tokens"
) -> dict[str, Any]:
    """The body for a provider: ``model`` replaced, usage asked for where ``ask_usage``, and an output cap
    that is ours named in ``cap_field``."""
    native = {**request.native, "model": model}
    if request.stream and ask_usage and not request.wants_usage:
        native["stream_options"] = {**(native.get("stream_options") or {}), "include_usage": True}
    if request.imposed_cap is not None:
        native[cap_field] = request.imposed_cap
    return native


def _whole(least: int, most: int) -> Check:
    def check(name: str, value: Any) -> None:
        if type(value) is not int or not least <= value <= most:
            raise InvalidRequest(f"'{name}' must be a whole number from {least} to {most}.", param=name)

    return check


def _number(least: float, most: float) -> Check:
    def check(name: str, value: Any) -> None:
        if type(value) not in (int, float) or not least <= value <= most:
            raise InvalidRequest(f"'{name}' must be a number from {least} to {most}.", param=name)

    return check


def _typed(kind: type, described: str) -> Check:
    def check(name: str, value: Any) -> None:
        if not isinstance(value, kind):
            raise InvalidRequest(f"'{name}' must be {described}.", param=name)

    return check


def _listed(most: int) -> Check:
    def check(name: str, value: Any) -> None:
        if not isinstance(value, list):
            raise InvalidRequest(f"'{name}' must be an array.", param=name)
        if len(value) > most:
            raise InvalidRequest(
                f"'{name}' holds {len(value)} items, at most {most} are allowed.", param=name
            )

    return check


def _stop(name: str, value: Any) -> None:
    values = value if isinstance(value, list) else [value]
    if len(values) > MAX_STOP or not all(isinstance(item, str) for item in values):
        raise InvalidRequest(f"'{name}' must be a string or at most {MAX_STOP} strings.", param=name)


def _logprobs(name: str, value: Any) -> None:
    """A boolean for chat, a small whole number for completions."""
    if type(value) is not bool and (type(value) is not int or not 0 <= value <= 20):
        raise InvalidRequest(f"'{name}' must be true, false or a whole number from 0 to 20.", param=name)


def _messages(name: str, value: Any) -> None:
    _listed(MAX_MESSAGES)(name, value)
    left = MAX_PARTS
    for index, message in enumerate(value):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise InvalidRequest(
                f"'{name}[{index}]' must be an object with a 'role'.", param=f"{name}[{index}]"
            )
        content = message.get("content")
        if isinstance(content, list):
            where = f"{name}[{index}].content"
            left -= len(content)
            if left < 0:
                raise InvalidRequest(f"'{name}' holds more than {MAX_PARTS} parts.", param=where)
            for part in content:
                _part(where, part)
        elif content is not None and not isinstance(content, str):
            raise InvalidRequest(
                f"'{name}[{index}].content' must be a string or an array of parts.",
                param=f"{name}[{index}].content",
            )


def _part(where: str, part: Any) -> None:
    if not isinstance(part, dict):
        raise InvalidRequest(f"'{where}' must hold objects.", param=where)
    image = part.get("image_url")
    if image is None:
        return
    url = image.get("url") if isinstance(image, dict) else image
    if not isinstance(url, str):
        raise InvalidRequest(f"'{where}.image_url.url' must be a string.", param=f"{where}.image_url")
    if not url.startswith("data:") and not _may_be_fetched(url):
        raise InvalidRequest(
            f"'{where}.image_url.url' must be a data: URL or the http(s) URL of a public host.",
            param=f"{where}.image_url",
        )


def _may_be_fetched(url: str) -> bool:
    """Whether a provider may be asked to fetch ``url``: never this host or a link-local neighbour."""
    if _AMBIGUOUS.search(url):
        return False
    try:
        parts = urlsplit(url)
        host = normalize("NFKC", parts.hostname or "").replace("\u3002", ".").casefold().rstrip(".")
    except ValueError:
        return False
    if parts.scheme not in ("http", "https") or not host or " " in host:
        return False
    if host == "localhost" or host.endswith(".localhost"):
        return False
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return not _NUMBER.fullmatch(host.rpartition(".")[2])  # an address in an uncommon spelling
    mapped = getattr(address, "ipv4_mapped", None) or address
    return not (mapped.is_loopback or mapped.is_link_local or mapped.is_unspecified)


def _needs_messages(native: dict[str, Any]) -> None:
    if not native.get("messages"):
        raise InvalidRequest("'messages' must hold at least one message.", param="messages")


def _needs_prompt(native: dict[str, Any]) -> None:
    _needs_text("prompt", native)


def _needs_input(native: dict[str, Any]) -> None:
    _needs_text("input", native)


def _needs_text(name: str, native: dict[str, Any]) -> None:
    """A string, strings, token ids, or lists of token ids."""
    value = native.get(name)
    if isinstance(value, str):
        return
    if not isinstance(value, list) or not value:
        raise InvalidRequest(f"'{name}' must be a string or a non-empty array.", param=name)
    kinds = set(map(type, value))
    if len(value) > MAX_INPUTS and kinds != {int}:
        raise InvalidRequest(f"'{name}' holds more than {MAX_INPUTS} inputs.", param=name)
    nested = kinds == {list} and all(value)
    ids = set(map(type, chain.from_iterable(value))) if nested else kinds
    if kinds != {str} and ids != {int}:
        raise InvalidRequest(
            f"'{name}' must be a string, an array of strings, an array of token ids, or an array of arrays"
            " of token ids.",
            param=name,
        )


_REQUIRED: dict[Operation, Callable[[dict[str, Any]], None]] = {
    Operation.CHAT: _needs_messages,
    Operation.COMPLETION: _needs_prompt,
    Operation.EMBEDDING: _needs_input,
}

_CHECKS: dict[str, Check] = {
    "best_of": _whole(1, MAX_CHOICES),
    "dimensions": _whole(1, 1_000_000),
    "frequency_penalty": _number(-2, 2),
    "logit_bias": _typed(dict, "an object"),
    "logprobs": _logprobs,
    "max_completion_tokens": _whole(1, _MAX_TOKENS),
    "max_tokens": _whole(1, _MAX_TOKENS),
    "messages": _messages,
    "metadata": _typed(dict, "an object"),
    "n": _whole(1, MAX_CHOICES),
    "presence_penalty": _number(-2, 2),
    "response_format": _typed(dict, "an object"),
    "seed": _whole(-(2**63), 2**63 - 1),
    "stop": _stop,
    "stream": _typed(bool, "true or false"),
    "stream_options": _typed(dict, "an object"),
    "temperature": _number(0, 2),
    "tools": _listed(MAX_TOOLS),
    "functions": _listed(MAX_TOOLS),
    "top_logprobs": _whole(0, 20),
    "top_p": _number(0, 1),
    "user": _typed(str, "a string"),
}
