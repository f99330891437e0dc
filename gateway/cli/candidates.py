"""Models and their prices, as an operator names them: groups of the configuration, or the price table's."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import typer

from gateway.accounting.pricing import Price, PriceBook, PriceTable, PriceTableError
from gateway.cli.admin_client import fail
from gateway.settings import ModelSettings, PriceSettings, Settings

NO_PRICE = "no price"


@dataclass(frozen=True, slots=True)
class Candidate:
    """``parts``: prices with the share of requests that pay each; none where a price is not known."""

    name: str
    parts: tuple[tuple[Fraction, Price], ...]

    @property
    def note(self) -> str:
        """What is odd about the price, empty for nothing."""
        free = [not _costs(price) for _, price in self.parts]
        if all(free):
            return "price 0" if free else NO_PRICE
        return "partly price 0" if any(free) else ""

    def cost_nanousd(self, input_tokens: int, output_tokens: int) -> Fraction:
        """Of one request."""
        costs = (share * price.cost_nanousd(input_tokens, 0, output_tokens) for share, price in self.parts)
        return sum(costs, Fraction(0))


def candidates(settings: Settings, names: str | None) -> list[Candidate]:
    """``names``: comma-separated; None: every group, also one without a price. Ends the command where a
    name, or the price of a named one, is not known."""
    book = PriceBook({name: _price_of(one) for name, one in settings.prices.items()}, PriceTable())
    try:
        if names is None:
            return _groups(settings, book)
        wanted = list(dict.fromkeys(name.strip() for name in names.split(",") if name.strip()))
        if not wanted:
            raise typer.BadParameter("name at least one model", param_hint="--models")
        return [_named(name, settings, book) for name in wanted]
    except PriceTableError as error:
        fail(str(error))


def _groups(settings: Settings, book: PriceBook) -> list[Candidate]:
    found = [
        _group(name, group, settings, book) or Candidate(name, ())
        for name, group in settings.models.items()
    ]
    if not any(candidate.parts for candidate in found):
        fail("no model of the configuration has a price; name some with --models")
    return found


def _group(name: str, group: ModelSettings, settings: Settings, book: PriceBook) -> Candidate | None:
    """By the weights of its deployments."""
    parts = []
    weights = sum(one.weight for one in group.deployments)
    for one in group.deployments:
        own = None if one.price is None else _price_of(one.price)
        price = book.price(settings.providers[one.provider].kind, one.model, own)
        if price is None:
            return None
        parts.append((Fraction(one.weight, weights), price))
    return Candidate(name, tuple(parts))


def _named(name: str, settings: Settings, book: PriceBook) -> Candidate:
    group = settings.models.get(settings.aliases.get(name, name))
    if group is not None:
        candidate = _group(name, group, settings, book)
        return candidate or fail(f"{name}: its price is not known; write one under prices")
    kind, _, model = name.partition("/")
    price = book.price("openai", name) or (book.price(kind, model) if model else None)
    if price is None:
        fail(f"{name}: neither a model of the configuration nor a name that the price table knows")
    return Candidate(name, ((Fraction(1), price),))


def _costs(price: Price) -> bool:
    rates = (price.input_per_mtok_nanousd, price.output_per_mtok_nanousd)
    return any(rates) or (price.above is not None and _costs(price.above))


def _price_of(settings: PriceSettings) -> Price:
    """Imported when it is needed: it brings most of the gateway with it."""
    from gateway.building import price_of as price

    return price(settings)
