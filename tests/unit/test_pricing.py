from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.accounting.money import format_usd
from gateway.accounting.pricing import Price, PriceBook, PriceTable, PriceTableError

USD = 10**9


def table_of(tmp_path: Path, entries: dict[str, Any]) -> PriceTable:
    path = tmp_path / "prices.json"
    path.write_bytes(orjson.dumps(entries))
    return PriceTable(path)


def entry(provider: str = "openai", **more: Any) -> dict[str, Any]:
    return {
        "litellm_provider": provider,
        "mode": "chat",
        "input_cost_per_token": 2.5e-06,
        "output_cost_per_token": 1e-05,
        **more,
    }


def test_cost_counts_cached_input_once_and_cheaper() -> None:
    price = Price.per_mtok(input=5 * USD // 2, cached_input=5 * USD // 4, output=10 * USD)
    assert format_usd(price.cost_nanousd(1000, 400, 200)) == "0.004000000"


def test_absent_rates_are_the_whole_ones() -> None:
    price = Price.per_mtok(input=3 * USD, output=15 * USD)
    assert price.cost_nanousd(100, 100, 0) == price.cost_nanousd(100, 0, 0)
    assert price.cost_nanousd(0, 0, 10, reasoning_tokens=10) == price.cost_nanousd(0, 0, 10)
    assert price.cost_nanousd(10, 0, 0, cache_write_tokens=10) == price.cost_nanousd(10, 0, 0)


def test_cache_writes_and_reasoning_have_their_rates() -> None:
    price = Price.per_mtok(input=USD, output=2 * USD, cache_write=5 * USD, reasoning=7 * USD)
    assert price.cost_nanousd(3, 0, 3, cache_write_tokens=1, reasoning_tokens=1) == 18_000


@pytest.mark.parametrize(("tokens", "nanousd"), [(1, 0), (2, 1), (3, 2), (5, 2), (7, 4)])
def test_rounding_happens_once_and_half_to_even(tokens: int, nanousd: int) -> None:
    assert Price.per_mtok(input=500_000, output=0).cost_nanousd(tokens, 0, 0) == nanousd


def test_a_provider_that_counts_cached_tokens_apart_is_not_undercharged() -> None:
    price = Price.per_mtok(input=USD, cached_input=USD // 10, output=0)
    assert price.cost_nanousd(10, 1000, 0) == 1000 * 100


def test_long_contexts_have_their_own_rates() -> None:
    long = Price.per_mtok(input=2 * USD, output=4 * USD)
    price = Price.per_mtok(input=USD, output=2 * USD, above_tokens=100, above=long)
    assert price.cost_nanousd(100, 0, 1) == 102_000
    assert price.cost_nanousd(101, 0, 1) == 206_000
    assert price.tier(101) is long
    assert price.version != Price.per_mtok(input=USD, output=2 * USD).version


def test_negative_prices_are_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        Price.per_mtok(input=1, output=-1)


def test_the_version_speaks_of_the_rates_alone() -> None:
    one = Price.per_mtok(input=1, output=2, source="config")
    two = Price.per_mtok(input=1, output=2, source="table")
    assert one.version == two.version != Price.per_mtok(input=2, output=1).version
    assert one.as_row()["version"] == one.version


def test_bundled_prices_are_exact() -> None:
    table = PriceTable()
    price = table.price("openai", "gpt-4o-2024-11-20")
    assert price is not None
    assert (price.input_per_mtok_nanousd, price.output_per_mtok_nanousd) == (5 * USD // 2, 10 * USD)
    assert price.cached_input_per_mtok_nanousd == 5 * USD // 4
    assert price.source == "table"
    assert table.context_window("openai", "gpt-4o-2024-11-20") == 128_000
    assert table.max_output("openai", "gpt-4o-2024-11-20") == 16_384


def test_bundled_embeddings_cost_no_output() -> None:
    price = PriceTable().price("openai", "text-embedding-3-small")
    assert price is not None
    assert (price.input_per_mtok_nanousd, price.output_per_mtok_nanousd) == (USD // 50, 0)


def test_reading_the_table_does_not_import_litellm() -> None:
    script = (
        "import sys; from gateway.accounting.pricing import PriceTable;"
        "assert PriceTable().price('openai', 'gpt-4o') is not None;"
        "sys.exit(any(name.split('.')[0] == 'litellm' for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_lookups_are_exact_or_without_the_date(tmp_path: Path) -> None:
    table = table_of(
        tmp_path,
        {
            "gpt-4o": entry(),
            "gemini/flash": entry("gemini", input_cost_per_token=1e-06),
            "flash": entry("vertex_ai-language-models", input_cost_per_token=9e-06),
            "claude": entry("anthropic"),
        },
    )

    def rate(kind: str, model: str) -> int | None:
        price = table.price(kind, model)
        return price.input_per_mtok_nanousd if price else None

    assert rate("openai", "gpt-4o-2031-01-31") == rate("openai", "gpt-4o") == 5 * USD // 2
    assert rate("anthropic", "claude-20310131") == rate("anthropic", "claude@20310131")
    assert rate("anthropic", "claude-20310131") is not None
    assert rate("gemini", "flash") == USD
    assert rate("vertex_ai", "flash") == 9 * USD
    assert rate("openai", "gemini/flash") == USD
    for kind, model in [
        ("together_ai", "gpt-4o"),
        ("openai", "gpt-4"),
        ("openai", "gpt-4o-mini"),
        ("openai", "gpt-4o-0613"),
        ("openai", "GPT-4o"),
        ("simulated", "gpt-4o"),
        ("openai", ""),
    ]:
        assert rate(kind, model) is None, (kind, model)


@pytest.mark.parametrize(
    "wrong",
    [
        {"input_cost_per_token": -1e-06},
        {"input_cost_per_token": 0},
        {"output_cost_per_token": 0.0},
        {"output_cost_per_token": "1e-06"},
        {"input_cost_per_token": True},
        {"input_cost_per_token": None},
        {"input_cost_per_token": [1e-06]},
    ],
    ids=str,
)
def test_u129_a_faulty_entry_is_an_unknown_price(tmp_path: Path, wrong: dict[str, Any]) -> None:
    table = table_of(tmp_path, {"good": entry(), "bad": entry(**wrong), "worse": 7})
    assert table.price("openai", "good") is not None
    assert table.price("openai", "bad") is None
    assert table.price("openai", "worse") is None


def test_u129_a_missing_entry_is_not_priced_by_its_undated_sibling_if_it_is_there(
    tmp_path: Path,
) -> None:
    table = table_of(tmp_path, {"m": entry(), "m-2030-01-01": entry(input_cost_per_token=0)})
    assert table.price("openai", "m-2030-01-01") is None


@pytest.mark.parametrize("count", [-1, 0, True, 1.5, "128000", None])
def test_faulty_windows_are_unknown(tmp_path: Path, count: object) -> None:
    table = table_of(tmp_path, {"m": entry(max_input_tokens=count, max_output_tokens=count)})
    assert table.context_window("openai", "m") is None
    assert table.max_output("openai", "m") is None


def test_tiers_of_the_table_are_linked_in_order(tmp_path: Path) -> None:
    table = table_of(
        tmp_path,
        {
            "m": entry(
                input_cost_per_token_above_256k_tokens=5e-06,
                input_cost_per_token_above_128k_tokens=4e-06,
                output_cost_per_token_above_128k_tokens=2e-05,
            )
        },
    )
    price = table.price("openai", "m")
    assert price is not None
    seen = [price.tier(n).input_per_mtok_nanousd for n in (128_000, 128_001, 256_000, 256_001)]
    assert seen == [5 * USD // 2, 4 * USD, 4 * USD, 5 * USD]
    assert price.tier(256_001).output_per_mtok_nanousd == 10 * USD
    assert price.tier(200_000).output_per_mtok_nanousd == 20 * USD


def test_binary_noise_of_the_table_is_rounded_away(tmp_path: Path) -> None:
    table = table_of(tmp_path, {"m": entry(input_cost_per_token=1.5000020000000002e-05)})
    price = table.price("openai", "m")
    assert price is not None
    assert price.input_per_mtok_nanousd == 15_000_020_000


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"a": NaN}', b"\xff"])
def test_u129_a_malformed_table_says_so(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "prices.json"
    path.write_bytes(content)
    with pytest.raises(PriceTableError, match=r"prices\.json"):
        PriceTable(path).price("openai", "gpt-4o")


def test_an_absent_table_says_so(tmp_path: Path) -> None:
    with pytest.raises(PriceTableError, match=r"none\.json"):
        PriceTable(tmp_path / "none.json").context_window("openai", "gpt-4o")


def test_a_book_prefers_the_nearer_price(tmp_path: Path) -> None:
    table = table_of(tmp_path, {"a": entry(), "b": entry(), "c": entry()})
    override, narrow, own = (Price.per_mtok(input=n, output=n) for n in (1, 2, 3))
    book = PriceBook({"a": override, "b": override, "openai/b": narrow}, table)
    assert book.price("openai", "a") is override
    assert book.price("openai", "b") is narrow
    assert book.price("azure", "b") is override
    assert book.price("openai", "b", own) is own
    found = book.price("openai", "c")
    assert found is not None and found.source == "table"
    assert book.price("openai", "d") is None
    assert PriceBook({}, None).price("openai", "a") is None


def test_a_free_model_can_be_configured() -> None:
    free = Price.per_mtok(input=0, output=0)
    price = PriceBook({"llama": free}, None).price("openai", "llama")
    assert price is free
    assert price.cost_nanousd(10, 0, 10) == 0
