"""What operators send and get about kill switches and keys."""

from __future__ import annotations

import time
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from gateway.control.issuing import OVERLAP_S
from gateway.control.keys import expiry_s, read_expiry

_YEAR_S = 366 * 86400
_TAG = r"^[A-Za-z0-9 ._:/@+-]{1,128}$"
_NAME = r"^[A-Za-z0-9._:/-]{1,64}$"


class Order(BaseModel):
    """What an operator sends; what is not known is refused."""

    model_config = ConfigDict(extra="forbid")


class SwitchOrder(Order):
    reason: str = Field(min_length=1, max_length=500, description="Those who are stopped read it.")
    expires_s: float | None = Field(
        default=None, gt=0, le=_YEAR_S, description="Seconds after which it is off by itself."
    )
    cut_streams: bool = Field(default=False, description="Ends what runs already, too.")


class SwitchState(BaseModel):
    scope: str
    name: str
    reason: str
    cut_streams: bool
    since: str
    expires: str | None
    source: str = Field(description="api, or file for the configuration.")
    known: bool = Field(description="Whether there is what it names.")


class SwitchOn(SwitchState):
    shared: bool = Field(description="false: the store is away, other processes hear of it later.")


class Switches(BaseModel):
    data: list[SwitchState]


class SwitchOff(BaseModel):
    scope: str
    name: str
    on: bool = False
    shared: bool


def _read_expiry(text: str) -> str:
    if expiry_s(read_expiry(text)) <= time.time():
        raise ValueError("is over already")
    return text


_Expiry = Annotated[str, AfterValidator(_read_expiry)]


class KeyOrder(Order):
    id: str | None = Field(default=None, pattern=_NAME, description="Absent: a random one.")
    expires: _Expiry | None = Field(default=None, description="A last day (UTC), or a time.")
    models: list[str] | None = Field(default=None, description="Less than the tenant's, if given.")
    tags: dict[Annotated[str, Field(pattern=_TAG)], Annotated[str, Field(pattern=_TAG)]] | None = Field(
        default=None, max_length=16, description="Cost tags of every request of this key."
    )
    strict: bool | None = Field(
        default=None, description="Refused when revocations have not been heard of for 60 s."
    )
    rotate: str | None = Field(default=None, description="Id of the key that this one replaces.")
    overlap_s: float = Field(
        default=OVERLAP_S, ge=0, le=_YEAR_S, description="Seconds for which the replaced key still works."
    )


class KeyState(BaseModel):
    id: str
    tenant: str
    source: str = Field(description="api, or file for the configuration.")
    created: str | None
    expires: str | None
    revoked: str | None
    models: list[str] | None
    tags: dict[str, str]
    strict: bool
    hash_ends: str = Field(description="The last four digits of the hash.")


class Keys(BaseModel):
    data: list[KeyState]


class NewKey(BaseModel):
    id: str
    tenant: str
    secret: str = Field(description="Shown this once.")
    hash: str
    created: str | None
    expires: str | None
    models: list[str] | None
    tags: dict[str, str]
    strict: bool
    replaces: str | None


class RevokedKey(KeyState):
    shared: bool = Field(description="false: the store is away, other processes hear of it later.")
