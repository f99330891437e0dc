"""Token estimates without a tokenizer: for reservations, and for what a provider did not count.

A text is weighed by the kinds of its characters, in hundredths of a token. The weights were fitted
to tiktoken's ``o200k_base`` on ten texts of 300–900 bytes; estimate ÷ true count, beside that of
the common rule of four bytes a token:

=================  ========  =======     =================  ========  =======
text               weighed   bytes/4     text               weighed   bytes/4
=================  ========  =======     =================  ========  =======
English prose      1.10      1.27        Russian            1.11      1.43
German prose       0.98      1.10        Arabic             1.05      1.39
Python             1.00      0.93        Hindi              1.02      1.96
compact JSON       1.03      0.65        Chinese            0.95      0.89
indented JSON      1.15      1.00        Japanese           0.95      0.89
log lines          0.99      0.75        Korean             1.00      0.95
SQL                1.10      0.93        emoji              1.08      0.60
=================  ========  =======     =================  ========  =======

Known to be far off: base64 (0.45), long runs of digits (1.6). Older tokenizers need more for other
scripts than Latin: with ``cl100k_base`` Chinese comes to 0.62 and Hindi to 0.33.
"""

from __future__ import annotations

import string
from collections.abc import Iterator
from typing import Any

import orjson

MESSAGE_OVERHEAD_TOKENS = 4
"""Role and separators of one chat message (OpenAI's cookbook counts 3, and 1 for a name)."""
REPLY_PRIMER_TOKENS = 3
"""What opens the assistant's turn (ibid.)."""
IMAGE_TOKENS = 765
"""One image of 1024 × 1024 at high detail: 85 + 4 tiles × 170 (OpenAI's vision guide)."""
IMAGE_LOW_DETAIL_TOKENS = 85
AUDIO_BASE64_CHARS_PER_TOKEN = 1600
"""Ten tokens a second of speech, at 128 kbit/s in base64."""
FILE_BASE64_CHARS_PER_TOKEN = 64

_ASCII, _DENSE, _UPPER, _ALPHABET, _IDEOGRAPH, _ASTRAL = 21, 55, 30, 37, 80, 200
_SAMPLED_CHARS = 16384
_SLICES = 16


def _all_but(kept: bytes) -> bytes:
    return bytes(set(range(256)) - set(kept))


_NOT_ASCII = bytes(range(0x80, 0x100))
_BUT_DENSE = _all_but((string.digits + string.punctuation).encode())
_BUT_UPPER = _all_but(string.ascii_uppercase.encode())
_BUT_ALPHABET_LEADS = _all_but(bytes(range(0xC2, 0xE1)))
_BUT_IDEOGRAPH_LEADS = _all_but(bytes(range(0xE1, 0xF0)))
_BUT_ASTRAL_LEADS = _all_but(bytes(range(0xF0, 0xF5)))


def estimate_tokens_from_bytes(n_utf8_bytes: int) -> int:
    """Four bytes a token, rounded up: for when only the size of a text is known."""
    return -(-n_utf8_bytes // 4)


def estimate_text(text: str) -> int:
    """Tokens of one text, rounded up; 0 for the empty one."""
    return tokens_of(weigh(text))


def tokens_of(weight: int) -> int:
    """Hundredths of a token to tokens, rounded up: weigh the pieces of a stream, add, convert
    once."""
    return -(-weight // 100)


def weigh(text: str) -> int:
    """The weight of a text in hundredths of a token.

    Takes ≈ 2.5 µs a KB of ASCII, 6 of other scripts; past 16 Ki characters sixteen evenly spread
    slices stand for the whole, so that no text holds the event loop for more than ≈ 0.2 ms.
    """
    length = len(text)
    if length <= _SAMPLED_CHARS:
        return _weigh(text)
    width, stride = _SAMPLED_CHARS // _SLICES, length // _SLICES
    sample = "".join(text[start : start + width] for start in range(0, stride * _SLICES, stride))
    return _weigh(sample) * length // len(sample)


def _weigh(text: str) -> int:
    raw = text.encode("utf-8", "surrogatepass")
    weight = (_DENSE - _ASCII) * len(raw.translate(None, _BUT_DENSE))
    weight += (_UPPER - _ASCII) * len(raw.translate(None, _BUT_UPPER))
    if text.isascii():
        return weight + _ASCII * len(raw)
    weight += _ASCII * len(raw.translate(None, _NOT_ASCII))
    weight += _ALPHABET * len(raw.translate(None, _BUT_ALPHABET_LEADS))
    weight += _IDEOGRAPH * len(raw.translate(None, _BUT_IDEOGRAPH_LEADS))
    return weight + _ASTRAL * len(raw.translate(None, _BUT_ASTRAL_LEADS))


def estimate_prompt(native: dict[str, Any]) -> int:
    """Input tokens of a request body in OpenAI's format: chat, completions or embeddings.

    Chat: the text of all messages, tool calls and tool definitions, an overhead for each message, a
    flat count for each image. Completions and embeddings: texts are weighed, token ids counted.
    Never raises: what has an unexpected shape counts as nothing, for validating it is another's
    work.
    """
    messages = native.get("messages")
    tokens = _estimate_chat(native, messages) if isinstance(messages, list) else 0
    for name in ("prompt", "input"):  # beside messages, too: nobody knows which of them a provider reads
        if name in native:
            texts, ids = _inputs(native[name])
            tokens += estimate_text("".join(texts)) + ids
    return tokens


def _estimate_chat(native: dict[str, Any], messages: list[Any]) -> int:
    texts: list[str] = []
    tokens = REPLY_PRIMER_TOKENS
    for message in messages:
        if isinstance(message, dict):
            tokens += MESSAGE_OVERHEAD_TOKENS + _collect_message(message, texts)
    for name in ("tools", "functions", "response_format"):
        definition = native.get(name)
        if definition:
            texts.append(orjson.dumps(definition).decode())
    return tokens + estimate_text("".join(texts))


def _collect_message(message: dict[str, Any], texts: list[str]) -> int:
    """Adds the message's texts; returns the tokens of what is not text."""
    tokens = 0
    content = message.get("content")
    if isinstance(content, str):
        texts.append(content)
    elif isinstance(content, list):
        tokens = sum(_collect_part(part, texts) for part in content if isinstance(part, dict))
    for call in _calls(message):
        texts.extend(value for value in call.values() if isinstance(value, str))
    return tokens


def _collect_part(part: dict[str, Any], texts: list[str]) -> int:
    kind = part.get("type")
    if kind == "image_url":
        low = _inner(part, "image_url", "detail") == "low"
        return IMAGE_LOW_DETAIL_TOKENS if low else IMAGE_TOKENS
    if kind == "input_audio":
        return len(_inner(part, "input_audio", "data")) // AUDIO_BASE64_CHARS_PER_TOKEN
    if kind == "file":
        return len(_inner(part, "file", "file_data")) // FILE_BASE64_CHARS_PER_TOKEN
    texts.extend(part[key] for key in ("text", "refusal") if isinstance(part.get(key), str))
    return 0


def _inner(part: dict[str, Any], name: str, key: str) -> str:
    inner = part.get(name)
    value = inner.get(key) if isinstance(inner, dict) else None
    return value if isinstance(value, str) else ""


def _calls(message: dict[str, Any]) -> Iterator[dict[str, Any]]:
    calls = message.get("tool_calls")
    for call in calls if isinstance(calls, list) else ():
        for name in ("function", "custom"):
            if isinstance(call, dict) and isinstance(call.get(name), dict):
                yield call[name]
    if isinstance(message.get("function_call"), dict):
        yield message["function_call"]


def _inputs(value: Any) -> tuple[list[str], int]:
    """The texts of a prompt, and how many token ids it holds."""
    if isinstance(value, str):
        return [value], 0
    if not isinstance(value, list):
        return [], 0
    texts = [item for item in value if isinstance(item, str)]
    ids = sum(type(item) is int for item in value)
    nested = sum(len(item) for item in value if isinstance(item, list))
    return texts, ids + nested
