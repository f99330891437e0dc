"""What a provider compares and nobody writes about a person: names, choices, and numbers of settings."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

LONG_NUMBER = 10**6
USUAL = frozenset(
    """
    assistant auto chat.completion chat.completion.chunk default developer embedding function json_object
    length list none stop system text text_completion tool tool_calls user
    """.split()
) | {""}
"""Names that need no closer look."""
USUAL_COUNTS = frozenset(
    """
    accepted_prediction_tokens audio_tokens cached_tokens completion_tokens completion_tokens_details
    prompt_tokens prompt_tokens_details reasoning_tokens rejected_prediction_tokens total_tokens
    """.split()
)
"""Names of numbers that need none either."""
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.:/-]{0,127}")
_ENCODED = re.compile(r"[A-Za-z0-9+/=_-]{32,}")
_NUMBERS = frozenset({int, float})


def long_number(value: Any) -> bool:
    """Whether ``value`` is a number that may be one of a card or a phone."""
    if type(value) is int:
        return not -LONG_NUMBER < value < LONG_NUMBER
    return type(value) is float and abs(value) >= LONG_NUMBER and value.is_integer()


def digits(value: float) -> str:
    """A long number as a text."""
    return str(int(value))


def only_numbers(values: list[Any]) -> bool:
    return _NUMBERS.issuperset(map(type, values))


def only_ids(values: list[Any]) -> bool:
    """Whether these are ids of tokens, or lists of such."""
    kinds = set(map(type, values))
    return kinds == {int} or (kinds == {list} and all(set(map(type, inner)) <= {int} for inner in values))


@dataclass(frozen=True, slots=True)
class Keep:
    """A rule: what looks like a name, a choice, or a small number is left alone; all else is text.

    ``numbers``: numbers of any size are left, too, also in lists and objects. ``encoded``: so is what looks
    like base64.
    """

    numbers: bool = False
    encoded: bool = False

    def holds(self, value: Any) -> bool:
        """For a value that is no list and no object."""
        kind = type(value)
        if kind is str:
            if value in USUAL or _NAME.fullmatch(value) is not None:
                return True
            return self.encoded and _ENCODED.fullmatch(value) is not None
        if kind is list:
            return self.numbers and only_numbers(value)
        return kind is not dict and (self.numbers or not long_number(value))
