"""Money: integer nano-dollars inside, ``Decimal`` or text at the edges, never a float.

One nano-dollar is 10⁻⁹ US dollars. An amount of nano-dollars is a plain ``int``, so sums are exact
and of any size; nothing here depends on the decimal context of the caller.
"""

from __future__ import annotations

from decimal import Decimal

NANO = 10**9
_MAX_EXPONENT = 18


def to_nanousd(usd: Decimal) -> int:
    """Dollars to nano-dollars, exactly.

    Raises ``ValueError`` for what is not finite, finer than a nano-dollar, or 10¹⁹ dollars and
    more.
    """
    if not usd.is_finite():
        raise ValueError(f"{usd} is not an amount of money")
    if not usd:
        return 0
    if not -9 <= usd.adjusted() <= _MAX_EXPONENT:
        raise ValueError(f"{usd} USD is out of range: amounts go from 10^-9 to 10^19 USD")
    numerator, denominator = usd.as_integer_ratio()
    nanousd, rest = divmod(numerator * NANO, denominator)
    if rest:
        raise ValueError(f"{usd} USD is finer than a nano-dollar (10^-9 USD)")
    return nanousd


def to_usd(nanousd: int) -> Decimal:
    """Nano-dollars to dollars, exactly, with nine decimals."""
    sign = 1 if nanousd < 0 else 0
    return Decimal((sign, tuple(map(int, str(abs(nanousd)))), -9))


def format_usd(nanousd: int) -> str:
    """Dollars as text with nine decimals: ``1_234_500`` is ``"0.001234500"``."""
    if nanousd < 0:
        return "-" + format_usd(-nanousd)
    whole, fraction = divmod(nanousd, NANO)
    return f"{whole}.{fraction:09d}"


def divide_half_even(numerator: int, denominator: int) -> int:
    """``numerator / denominator`` (a positive one), rounded once, ties to the even neighbour."""
    quotient, rest = divmod(numerator, denominator)
    twice = 2 * rest
    if twice > denominator or (twice == denominator and quotient & 1):
        return quotient + 1
    return quotient
