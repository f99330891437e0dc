"""Prices: US dollars per million tokens."""

from __future__ import annotations

from pydantic import Field

from gateway.settings.section import Section, Usd


class PriceSettings(Section):
    """What a model costs, in US dollars per million tokens."""

    input_per_mtok_usd: Usd = Field(
        description="Price of input tokens; set it to what your contract says.",
    )
    output_per_mtok_usd: Usd = Field(
        description="Price of output tokens; set it to what your contract says."
    )
    cached_input_per_mtok_usd: Usd | None = Field(
        default=None,
        description="Price of input tokens that the provider had cached; absent, that of input.",
    )
