from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal, localcontext

from hypothesis import given
from hypothesis import strategies as st

from gateway.accounting.money import divide_half_even, format_usd, to_nanousd, to_usd
from gateway.accounting.pricing import Price

amounts = st.integers(-(10**27), 10**27)
counts = st.integers(0, 10**8)
rates = st.integers(0, 10**13)


@given(amounts)
def test_an_amount_survives_text_and_decimal(nanousd: int) -> None:
    assert to_nanousd(Decimal(format_usd(nanousd))) == nanousd
    assert to_nanousd(to_usd(nanousd)) == nanousd


@given(amounts, st.integers(1, 10**12))
def test_division_rounds_like_decimal(numerator: int, denominator: int) -> None:
    with localcontext() as context:
        context.prec = 80
        exact = Decimal(numerator) / Decimal(denominator)
        rounded = int(exact.to_integral_value(ROUND_HALF_EVEN))
    assert divide_half_even(numerator, denominator) == rounded


@given(rates, rates, rates, counts, counts, counts)
def test_a_cost_is_the_exact_sum_rounded_once(
    input: int, cached: int, output: int, fresh: int, hit: int, made: int
) -> None:
    price = Price.per_mtok(input=input, cached_input=cached, output=output)
    exact = fresh * input + hit * cached + made * output
    assert price.cost_nanousd(fresh + hit, hit, made) == divide_half_even(exact, 10**6)


@given(rates, rates, counts, counts, counts, counts)
def test_more_tokens_never_cost_less(
    input: int, output: int, n_in: int, n_out: int, more_in: int, more_out: int
) -> None:
    price = Price.per_mtok(input=input, output=output)
    assert price.cost_nanousd(n_in, 0, n_out) <= price.cost_nanousd(n_in + more_in, 0, n_out + more_out)


@given(st.integers(-(10**6), 10**6), st.integers(-(10**6), 10**6), st.integers(-(10**6), 10**6))
def test_no_usage_that_a_provider_reports_makes_a_negative_cost(n: int, hit: int, out: int) -> None:
    price = Price.per_mtok(input=3_000_000_000, cached_input=300_000_000, output=15_000_000_000)
    assert price.cost_nanousd(n, hit, out) >= 0
