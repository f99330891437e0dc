"""What every part of the configuration is made of: frozen sections, and fields that read text.

A YAML file says nothing about types: all its scalars arrive as text and each field reads its own. So
``no`` is text where text is wanted, ``12:30`` is never a number, and money never passes through a float.
"""

from __future__ import annotations

import math
import re
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    model_validator,
)

_WHOLE = re.compile(r"-?(0|[1-9][0-9]{0,17})")
_NUMBER = re.compile(r"-?[0-9]{1,30}(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,3})?")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9:.]{5,15}([Zz]|[+-][0-9]{2}:[0-9]{2})")
_VISIBLE = re.compile(r"[!-~]*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_YEAR_S = 366 * 86400
_MAX_USD = Decimal(10) ** 12
_NANO = Decimal("1e-9")


class Section(BaseModel):
    """Keys and values. A key without a value is the same as an absent key."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _absent(cls, data: Any) -> Any:
        if data is None:
            return {}
        if isinstance(data, dict):
            return {k: v for k, v in data.items() if v is not None or k not in cls.model_fields}
        return data


def _whole(value: Any) -> Any:
    if isinstance(value, str) and _WHOLE.fullmatch(value):
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ValueError("must be a whole number in decimal digits")


def _number(value: Any) -> Any:
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        value = float(value)
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return value
    raise ValueError("must be a number")


def _flag(value: Any) -> Any:
    if isinstance(value, bool):
        return value
    if value in ("true", "false"):
        return value == "true"
    raise ValueError("must be true or false")


def _money(value: Any) -> Any:
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        value = Decimal(value)
    if isinstance(value, int) and not isinstance(value, bool):
        value = Decimal(value)
    if not isinstance(value, Decimal) or not value.is_finite():
        raise ValueError("must be an amount of US dollars such as 2.50")
    if value < 0:
        raise ValueError("must not be negative")
    if value and (value >= _MAX_USD or value % _NANO):
        raise ValueError("must be less than 10^12 USD and have at most nine decimals")
    return value


def _day(value: Any) -> Any:
    if isinstance(value, date):
        return value
    if isinstance(value, str) and _DATE.fullmatch(value):
        try:
            return date.fromisoformat(value)
        except ValueError:
            pass
    raise ValueError("must be a date such as 2027-01-31")


def _moment(value: Any) -> Any:
    if isinstance(value, str) and _TIME.fullmatch(value):
        try:
            return datetime.fromisoformat(value.upper())
        except ValueError:
            pass
    try:
        return _day(value)
    except ValueError:
        wanted = "must be a date such as 2027-01-31, or a time such as 2027-01-31T18:00:00Z"
        raise ValueError(wanted) from None


def _text(value: str) -> str:
    if _CONTROL.search(value):
        raise ValueError("must not hold line breaks or control characters")
    return value


def _visible(value: str) -> str:
    if not _VISIBLE.fullmatch(value):
        raise ValueError("must hold visible ASCII characters only, without spaces or line breaks")
    return value


def _secret(value: SecretStr) -> SecretStr:
    _visible(value.get_secret_value())
    return value


def _path(value: Any) -> Any:
    if isinstance(value, str):
        if not value:
            raise ValueError("must not be empty")
        _text(value)
    return value


def _empty_is_absent(value: Any) -> Any:
    return None if value == "" else value


Whole = Annotated[int, BeforeValidator(_whole)]
Number = Annotated[float, BeforeValidator(_number)]
Flag = Annotated[bool, BeforeValidator(_flag)]
Usd = Annotated[
    Decimal,
    BeforeValidator(_money, json_schema_input_type=float | str),
]
Moment = Annotated[date | datetime, BeforeValidator(_moment)]
"""A day, or a time with its zone."""
Seconds = Annotated[Number, Field(gt=0, le=_YEAR_S)]
SecondsOrZero = Annotated[Number, Field(ge=0, le=_YEAR_S)]
Count = Annotated[Whole, Field(ge=1)]

Text = Annotated[str, Field(min_length=1, max_length=1024), AfterValidator(_text)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9._:/-]{1,64}$")]
NameOrAll = Annotated[str, Field(pattern=r"^(\*|[A-Za-z0-9._:/-]{1,64})$")]
LocalPath = Annotated[Path, BeforeValidator(_path)]
Secret = Annotated[SecretStr, AfterValidator(_secret)]
OptionalText = Annotated[Text | None, BeforeValidator(_empty_is_absent)]
OptionalPath = Annotated[LocalPath | None, BeforeValidator(_empty_is_absent)]
OptionalSecret = Annotated[Secret | None, BeforeValidator(_empty_is_absent)]
