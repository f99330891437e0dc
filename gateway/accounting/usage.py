"""How many tokens requests have used: the quantiles of the ledger's rows, by feature."""

from __future__ import annotations

import math
from array import array
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson

from gateway.accounting.chain import list_days

MOST_ROWS = 2_000_000
"""The newest ones are looked at."""
_ANSWERED = ("ok", "partial", "client_gone")


@dataclass(frozen=True, slots=True)
class Usage:
    """Of one feature's answered requests: tokens that 50 and 95 of 100 do not exceed."""

    feature: str
    requests: int
    input_p50: int
    input_p95: int
    output_p50: int
    output_p95: int


def seen_usage(ledger: Path, feature: str | None = None) -> list[Usage]:
    """What all writers' rows say, the feature of most requests first; ``feature``: of that one alone.
    Raises ``OSError``."""
    inputs: defaultdict[str, array[int]] = defaultdict(lambda: array("q"))
    outputs: defaultdict[str, array[int]] = defaultdict(lambda: array("q"))
    for name, input_tokens, output_tokens in _answered(ledger):
        if feature is None or name == feature:
            inputs[name].append(input_tokens)
            outputs[name].append(output_tokens)
    found = [_usage(name, sorted(inputs[name]), sorted(outputs[name])) for name in inputs]
    return sorted(found, key=lambda usage: (-usage.requests, usage.feature))


def _usage(feature: str, inputs: list[int], outputs: list[int]) -> Usage:
    return Usage(
        feature,
        len(inputs),
        _quantile(inputs, 0.5),
        _quantile(inputs, 0.95),
        _quantile(outputs, 0.5),
        _quantile(outputs, 0.95),
    )


def _quantile(ordered: list[int], share: float) -> int:
    """The smallest value that at least this share of them does not exceed."""
    return ordered[max(math.ceil(share * len(ordered)), 1) - 1]


def _answered(ledger: Path) -> Iterator[tuple[str, int, int]]:
    """Feature, input and output tokens of requests that a provider answered, newest days first."""
    days = sorted((day for writer in ledger.glob("*/") for day in list_days(writer)), key=_name)
    left = MOST_ROWS
    for path in reversed(days):
        with path.open("rb") as file:
            for line in file:
                found = _answer(line)
                if found is not None:
                    yield found
                    left -= 1
        if left <= 0:
            return


def _name(path: Path) -> str:
    return path.name


def _answer(line: bytes) -> tuple[str, int, int] | None:
    try:
        row = orjson.loads(line)
        if row["kind"] != "exchange" or row["outcome"] not in _ANSWERED or row["cost_source"] == "cached":
            return None
        input_tokens, output_tokens = row["usage"]["input_tokens"], row["usage"]["output_tokens"]
        return (row["feature"], input_tokens, output_tokens) if input_tokens else None
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return None
