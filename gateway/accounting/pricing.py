"""What a token costs: from the configuration, else from the price table that litellm ships.

The table is read as a file; litellm itself is never imported here. All rates are integer
nano-dollars per million tokens. Rates are those of text tokens at a provider's standard tier:
batch, priority and flex tiers and separate audio or image token rates of the table are not read.
"""

from __future__ import annotations

import hashlib
import importlib.util
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path
from typing import Any, Literal

import orjson

from gateway.accounting.money import divide_half_even

MTOK = 10**6
Source = Literal["config", "table"]

_TABLE_FILE = "model_prices_and_context_window_backup.json"
_NANOUSD_PER_MTOK = Decimal(10) ** 15
_DATE_SUFFIX = re.compile(r"[-@](?:\d{4}-\d{2}-\d{2}|20\d{6})$")
_TIER = re.compile(r"^input_cost_per_token_above_(\d+)k_tokens$")
_INPUT_ONLY_MODES = frozenset({"embedding"})


class PriceTableError(ValueError):
    """The bundled price table is absent or malformed; the message says which file."""


@dataclass(frozen=True, slots=True)
class Price:
    """The rates of one model, in nano-dollars per million tokens; make one with ``per_mtok``.

    ``above``: the rates of a whole request that has more than ``above_tokens`` input tokens (how
    Gemini, OpenAI and Anthropic price long contexts), None without such a tier. ``version``: a
    short id of the rates, for the ledger; equal rates have equal versions.
    """

    input_per_mtok_nanousd: int
    cached_input_per_mtok_nanousd: int
    cache_write_per_mtok_nanousd: int
    output_per_mtok_nanousd: int
    reasoning_per_mtok_nanousd: int
    source: Source
    above_tokens: int = 0
    above: Price | None = None
    version: str = field(init=False, compare=False)
    _row: dict[str, str | int] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        if min(self._rates()) < 0:
            raise ValueError("a price cannot be negative")
        tier = f">{self.above_tokens}:{self.above.version}" if self.above else ""
        canonical = ",".join(map(str, self._rates())) + tier
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        object.__setattr__(self, "version", digest[:8])
        object.__setattr__(self, "_row", self._as_row())

    @classmethod
    def per_mtok(
        cls,
        *,
        input: int,
        output: int,
        cached_input: int | None = None,
        cache_write: int | None = None,
        reasoning: int | None = None,
        source: Source = "config",
        above_tokens: int = 0,
        above: Price | None = None,
    ) -> Price:
        """Rates in nano-dollars per million tokens; absent cache rates are the input's, an absent
        reasoning rate is the output's. Raises ``ValueError`` for a negative rate."""
        return cls(
            input_per_mtok_nanousd=input,
            cached_input_per_mtok_nanousd=input if cached_input is None else cached_input,
            cache_write_per_mtok_nanousd=input if cache_write is None else cache_write,
            output_per_mtok_nanousd=output,
            reasoning_per_mtok_nanousd=output if reasoning is None else reasoning,
            source=source,
            above_tokens=above_tokens,
            above=above,
        )

    def cost_nanousd(
        self,
        input_tokens: int,
        cached_input_tokens: int,
        output_tokens: int,
        *,
        cache_write_tokens: int = 0,
        reasoning_tokens: int = 0,
    ) -> int:
        """The cost, exact and rounded once, half to even.

        ``input_tokens`` includes the cached and the cache-written ones, ``output_tokens`` the
        reasoning ones. Where a provider reports more parts than the whole, the parts are charged.
        Negative counts are taken as 0.
        """
        rates = self.tier(input_tokens)
        cached = max(cached_input_tokens, 0)
        written = max(cache_write_tokens, 0)
        reasoning = max(reasoning_tokens, 0)
        total = (
            max(input_tokens - cached - written, 0) * rates.input_per_mtok_nanousd
            + cached * rates.cached_input_per_mtok_nanousd
            + written * rates.cache_write_per_mtok_nanousd
            + max(output_tokens - reasoning, 0) * rates.output_per_mtok_nanousd
            + reasoning * rates.reasoning_per_mtok_nanousd
        )
        return divide_half_even(total, MTOK)

    def tier(self, input_tokens: int) -> Price:
        """The rates that a request of this many input tokens is charged by."""
        rates = self
        while rates.above is not None and input_tokens > rates.above_tokens:
            rates = rates.above
        return rates

    def as_row(self) -> dict[str, str | int]:
        """What a ledger row keeps of the price it used, so that the row stands by itself; take it
        from ``tier(input_tokens)``, and leave it as it is."""
        return self._row

    def _as_row(self) -> dict[str, str | int]:
        return {
            "version": self.version,
            "source": self.source,
            "input_per_mtok_nanousd": self.input_per_mtok_nanousd,
            "cached_input_per_mtok_nanousd": self.cached_input_per_mtok_nanousd,
            "output_per_mtok_nanousd": self.output_per_mtok_nanousd,
        }

    def _rates(self) -> tuple[int, ...]:
        return (
            self.input_per_mtok_nanousd,
            self.cached_input_per_mtok_nanousd,
            self.cache_write_per_mtok_nanousd,
            self.output_per_mtok_nanousd,
            self.reasoning_per_mtok_nanousd,
        )


class PriceTable:
    """litellm's bundled table: prices, context windows and output caps by provider and model.

    ``path``: another file of that format. It is read on the first lookup and held (≈ 5 MB) until
    the object goes: build what is needed from it, then drop it. Every lookup may raise
    ``PriceTableError``.

    A model is looked up as ``<kind>/<model>``, then as ``<model>`` if that entry belongs to the
    provider (``kind`` ``openai`` stands for any vendor that speaks its format, so there every entry
    does), then both once more without a date suffix (``-2024-11-20``, ``-20241022``,
    ``@20241022``). Nothing else is tried: what is not found is unknown. So is an entry with a
    missing, negative or zero rate, since the table writes 0 for what nobody filled in; a free model
    needs a configured price of 0.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._entries: dict[str, Any] | None = None

    def price(self, provider_kind: str, model: str) -> Price | None:
        """The price by the first entry that is found, None if that one holds none."""
        entry = next(self._find(provider_kind, model), None)
        return _entry_price(entry) if entry is not None else None

    def context_window(self, provider_kind: str, model: str) -> int | None:
        """The most input tokens that the model takes."""
        return self._first_count(provider_kind, model, "max_input_tokens")

    def max_output(self, provider_kind: str, model: str) -> int | None:
        """The most output tokens that the model makes."""
        return self._first_count(provider_kind, model, "max_output_tokens")

    def _first_count(self, provider_kind: str, model: str, name: str) -> int | None:
        for entry in self._find(provider_kind, model):
            count = entry.get(name)
            if type(count) is int and count > 0:
                return count
        return None

    def _find(self, kind: str, model: str) -> Iterator[dict[str, Any]]:
        entries = self._load()
        for name in dict.fromkeys((model, _DATE_SUFFIX.sub("", model))):
            qualified = entries.get(f"{kind}/{name}")
            if isinstance(qualified, dict):
                yield qualified
            bare = entries.get(name)
            if isinstance(bare, dict) and _belongs(bare, kind):
                yield bare

    def _load(self) -> dict[str, Any]:
        if self._entries is None:
            path = self._path or _bundled_path()
            try:
                entries = orjson.loads(path.read_bytes())
            except (OSError, orjson.JSONDecodeError) as error:
                raise PriceTableError(f"price table {path}: {error}") from error
            if not isinstance(entries, dict):
                raise PriceTableError(f"price table {path}: not an object")
            entries.pop("sample_spec", None)
            self._entries = entries
        return self._entries


class PriceBook:
    """Where a price comes from: the deployment's own, the overrides, the table, in this order.

    ``overrides``: keyed ``<kind>/<model>`` or ``<model>``, the former first. ``table`` None: no
    table.
    """

    def __init__(self, overrides: Mapping[str, Price], table: PriceTable | None) -> None:
        self._overrides = dict(overrides)
        self._table = table

    def price(self, provider_kind: str, model: str, own: Price | None = None) -> Price | None:
        """``own``: the price written at the deployment. None: nobody knows the price."""
        if own is not None:
            return own
        for name in (f"{provider_kind}/{model}", model):
            if name in self._overrides:
                return self._overrides[name]
        return self._table.price(provider_kind, model) if self._table else None


def _bundled_path() -> Path:
    spec = importlib.util.find_spec("litellm")
    if spec is None or not spec.submodule_search_locations:
        raise PriceTableError("price table: litellm is not installed")
    return Path(spec.submodule_search_locations[0]) / _TABLE_FILE


def _belongs(entry: dict[str, Any], kind: str) -> bool:
    return kind == "openai" or str(entry.get("litellm_provider", "")).startswith(kind)


def _rate(entry: dict[str, Any], name: str) -> int | None:
    """A positive rate in nano-dollars per million tokens, else None.

    A JSON float goes through its shortest decimal form, so 2.5e-06 is exact; what binary arithmetic
    left behind in the table (1.5000020000000002e-05) is rounded to a nano-dollar per million
    tokens.
    """
    value = entry.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        return None
    exact = Decimal(repr(value)) * _NANOUSD_PER_MTOK
    return int(exact.to_integral_value(ROUND_HALF_EVEN)) if exact.is_finite() else None


def _entry_price(entry: dict[str, Any]) -> Price | None:
    """The base price with its long-context tiers, each linked to the next higher one."""
    tiers = sorted(int(match[1]) for match in map(_TIER.match, entry) if match)
    above, above_tokens = None, 0
    for thousands in reversed(tiers):
        above = _tier_price(entry, f"_above_{thousands}k_tokens", above, above_tokens)
        above_tokens = thousands * 1000
    return _tier_price(entry, "", above, above_tokens)


def _tier_price(entry: dict[str, Any], suffix: str, above: Price | None, above_tokens: int) -> Price | None:
    def rate(name: str) -> int | None:
        return _rate(entry, name + suffix) or _rate(entry, name)

    input_rate, output_rate = (
        rate("input_cost_per_token"),
        rate("output_cost_per_token"),
    )
    if output_rate is None and entry.get("mode") in _INPUT_ONLY_MODES:
        output_rate = 0
    if input_rate is None or output_rate is None:
        return None
    return Price.per_mtok(
        input=input_rate,
        output=output_rate,
        cached_input=rate("cache_read_input_token_cost"),
        cache_write=rate("cache_creation_input_token_cost"),
        reasoning=rate("output_cost_per_reasoning_token"),
        source="table",
        above_tokens=above_tokens,
        above=above,
    )
