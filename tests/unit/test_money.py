from __future__ import annotations

from decimal import Decimal

import pytest

from gateway.accounting.money import divide_half_even, format_usd, to_nanousd, to_usd


@pytest.mark.parametrize(
    ("usd", "nanousd"),
    [
        ("0", 0),
        ("-0", 0),
        ("0E+999999", 0),
        ("0.000000001", 1),
        ("-0.000000001", -1),
        ("2.5", 2_500_000_000),
        ("1E3", 1_000_000_000_000),
        ("9999999999999999999.999999999", 9999999999999999999_999999999),
    ],
)
def test_dollars_become_nanodollars_exactly(usd: str, nanousd: int) -> None:
    assert to_nanousd(Decimal(usd)) == nanousd


@pytest.mark.parametrize(
    "usd",
    ["0.0000000001", "1.0000000001", "NaN", "Infinity", "-Infinity", "1E+999999", "1E-999999"],
)
def test_what_is_no_exact_amount_is_refused(usd: str) -> None:
    with pytest.raises(ValueError, match=r"USD|money"):
        to_nanousd(Decimal(usd))


@pytest.mark.parametrize(
    ("nanousd", "text"),
    [
        (0, "0.000000000"),
        (1, "0.000000001"),
        (1_234_500, "0.001234500"),
        (-1, "-0.000000001"),
        (-12_000_000_001, "-12.000000001"),
        (10**27, "1000000000000000000.000000000"),
    ],
)
def test_text_has_nine_decimals(nanousd: int, text: str) -> None:
    assert format_usd(nanousd) == text
    assert str(to_usd(nanousd)) in {text, "0E-9", str(Decimal(text))}
    assert to_usd(nanousd) == Decimal(text)


@pytest.mark.parametrize(
    ("numerator", "quotient"),
    [(4, 0), (5, 0), (6, 1), (15, 2), (25, 2), (-5, 0), (-15, -2), (-6, -1)],
)
def test_ties_go_to_the_even_neighbour(numerator: int, quotient: int) -> None:
    assert divide_half_even(numerator, 10) == quotient
