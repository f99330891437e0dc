"""Which numbers a country gives out: the rules of the ``phonenumbers`` package, fused into one linear
expression for each country code."""

from __future__ import annotations

from collections.abc import Sequence

from phonenumbers import COUNTRY_CODE_TO_REGION_CODE, PhoneMetadata
from phonenumbers.phonemetadata import REGION_CODE_FOR_NON_GEO_ENTITY

from gateway.privacy.linear import Linear

_KINDS = (
    "fixed_line mobile toll_free premium_rate shared_cost personal_number voip pager uan voicemail".split()
)

_TRUNK_LEFT_OUT = frozenset({"IN"})


class Country:
    """The numbers behind one country code; at home they may follow what is dialled first (``trunk``)."""

    def __init__(self, code: int, of_kinds: Sequence[str] = _KINDS) -> None:
        patterns: set[str] = set()
        self.trunk = ""
        self.lengths: set[int] = set()
        for region in COUNTRY_CODE_TO_REGION_CODE[code]:
            if region == REGION_CODE_FOR_NON_GEO_ENTITY:
                rules = PhoneMetadata.metadata_for_nongeo_region(code)
            else:
                rules = PhoneMetadata.metadata_for_region(region)
            kinds = [getattr(rules, kind) for kind in of_kinds]
            patterns.update(kind.national_number_pattern for kind in kinds if kind is not None)
            if rules is not None and rules.general_desc is not None:
                self.lengths.update(rules.general_desc.possible_length)
            self.trunk = self.trunk or getattr(rules, "national_prefix", None) or ""
        self._fused = "|".join(sorted(pattern for pattern in patterns if pattern))
        self.numbers = Linear(self.pattern)

    @property
    def pattern(self) -> bytes:
        """Of all numbers, with ``trunk`` or without."""
        return f"(?:{self.trunk})?(?:{self._fused})".encode()


class PhoneBook:
    """Countries by their code, read when one is first met."""

    def __init__(self) -> None:
        self._countries: dict[int, Country] = {}

    def has(self, digits: bytes) -> bool:
        """Whether ``digits``, which begin with a country code, are a number."""
        for size in (1, 2, 3):
            code = int(digits[:size])
            if code in COUNTRY_CODE_TO_REGION_CODE:
                return self._country(code).numbers.covers(digits[size:])
        return False

    def may_have(self, digits: bytes) -> bool:
        """Whether ``digits``, which begin with a country code, are as many as a number has there."""
        for size in (1, 2, 3):
            code = int(digits[:size])
            if code in COUNTRY_CODE_TO_REGION_CODE:
                country = self._country(code)
                national = digits[size:]
                dialled = national.removeprefix(country.trunk.encode())
                return len(national) in country.lengths or len(dialled) in country.lengths
        return False

    def at_home(self, regions: Sequence[str], kinds: Sequence[str] = ()) -> Linear:
        """An expression of what is dialled inside of ``regions``, one or more ISO 3166 codes; all kinds
        of numbers, or ``kinds`` as ``phonenumbers`` calls them.

        Raises ``ValueError`` for what is none of a region with phones.
        """
        codes: dict[int, None] = {}
        for region in regions:
            rules = PhoneMetadata.metadata_for_region(region)
            if rules is None or rules.country_code is None:
                raise ValueError(f"there is no phone region '{region}'")
            codes[rules.country_code] = None
        countries = (Country(code, kinds) if kinds else self._country(code) for code in codes)
        return Linear(b"|".join(country.pattern for country in countries))

    def without_trunk(self, regions: Sequence[str]) -> tuple[str, ...]:
        """Those of ``regions`` where numbers are written without what is dialled first."""
        written = (PhoneMetadata.metadata_for_region(region) for region in regions)
        return tuple(
            rules.id
            for rules in written
            if rules is not None and (rules.national_prefix != "0" or rules.id in _TRUNK_LEFT_OUT)
        )

    def _country(self, code: int) -> Country:
        country = self._countries.get(code)
        if country is None:
            country = self._countries[code] = Country(code)
        return country
