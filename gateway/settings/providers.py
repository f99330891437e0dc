"""``providers``: whom the gateway calls."""

from __future__ import annotations

import re
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr

from gateway.settings.section import (
    Count,
    Flag,
    Name,
    OptionalPath,
    OptionalSecret,
    OptionalText,
    SecondsOrZero,
    Section,
    Whole,
)

_SPACES = re.compile(r"[^!-~]")


def _base_url(url: str | None) -> str | None:
    if url is not None:
        _check_url(url)
        parts = urlsplit(url)
        if parts.username is not None or parts.query or parts.fragment:
            raise ValueError("must have no user information, query or fragment")
    return url


def _proxy(url: SecretStr | None) -> SecretStr | None:
    if url is not None:
        _check_url(url.get_secret_value())
    return url


def _check_url(url: str) -> None:
    """Raises ValueError, in words that hold nothing of the URL."""
    rule = "must be a URL such as https://api.openai.com/v1"
    if _SPACES.search(url) or "\\" in url:
        raise ValueError(rule + ", in ASCII and without spaces")
    try:
        parts = urlsplit(url)
        port = parts.port
        (parts.hostname or "").encode("idna")
    except (ValueError, UnicodeError):
        raise ValueError(rule) from None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise ValueError(rule)


class SimulateSettings(Section):
    """How the simulated provider behaves."""

    latency_s: SecondsOrZero = Field(
        default=0.0,
        description="Seconds to the first byte; raise it to see how apps take a slow model.",
    )
    chunk_s: SecondsOrZero = Field(
        default=0.0, description="Seconds between the pieces of a stream; raise it to watch streaming."
    )
    words: Annotated[Whole, Field(ge=1, le=100_000)] = Field(
        default=16,
        description="Length of an answer, one token for each word; raise it to test long answers.",
    )
    fail: Literal["refuse", "error_500", "rate_limit", "hang", "cut", "invalid_json"] | None = Field(
        default=None, description="Makes every answer fail in this way, to see what apps make of it."
    )
    seed: Whole = Field(default=0, description="Another number makes another text.")


class ProviderSettings(Section):
    """A provider's address, credentials and wire format."""

    kind: Name = Field(
        description="The wire format: openai for whatever speaks OpenAI's, simulated for the built-in "
        "one, otherwise a LiteLLM provider name such as anthropic."
    )
    base_url: Annotated[OptionalText, AfterValidator(_base_url)] = Field(
        default=None,
        description="The provider's root, with /v1 where its format has it; any host you want to call.",
    )
    api_key: OptionalSecret = Field(
        default=None,
        description="The credential sent to the provider; leave it out where the provider wants none.",
    )
    stream_usage: Flag = Field(
        default=True, description="Set it to false for an upstream that refuses stream_options."
    )
    prefill: Literal["none", "message", "prefix", "vllm"] = Field(
        default="none",
        description="How this upstream goes on from a begun answer (for on_cut: continue): message takes a "
        "last message of the assistant, prefix wants it marked (DeepSeek, Mistral), vllm is for vLLM.",
    )
    cap_field: Literal["max_tokens", "max_completion_tokens"] | None = Field(
        default=None,
        description="The field in which this upstream takes the output cap of a chat, where the gateway "
        "names one; absent: max_completion_tokens at OpenAI and Azure, max_tokens elsewhere.",
    )
    transport: Literal["native", "httpx"] = Field(
        default="native",
        description="The HTTP engine; httpx is slower and can do HTTP proxies and HTTP/2.",
    )
    proxy: Annotated[OptionalSecret, AfterValidator(_proxy)] = Field(
        default=None,
        description="URL of an HTTP proxy, for providers that cannot be reached directly "
        "(transport: httpx).",
    )
    http2: Flag = Field(
        default=False,
        description="Speaks HTTP/2 to providers that gain by it (transport: httpx).",
    )
    ca_file: OptionalPath = Field(
        default=None,
        description="PEM file of the authorities to trust instead of the usual ones, for a private CA.",
    )
    max_connections: Count = Field(
        default=1000,
        description="Connections of one process to this provider; lower it to protect a small upstream.",
    )
    simulate: SimulateSettings = Field(
        default_factory=SimulateSettings,
        description="How the built-in provider behaves (kind: simulated).",
    )
