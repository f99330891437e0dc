"""``server`` and ``storage``: one process and what it keeps."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr

from gateway.settings.section import Count, LocalPath, OptionalSecret, SecondsOrZero, Section, Text, Whole
from gateway.storage import redis_url
from gateway.storage.interface import StoreRefused

STORES = ("memory://", "redis://", "rediss://", "redis+cluster://", "redis+sentinel://")
MIN_TOKEN_CHARS = 32


def _long(token: SecretStr | None) -> SecretStr | None:
    if token is not None and len(token.get_secret_value()) < MIN_TOKEN_CHARS:
        raise ValueError(
            f"must have at least {MIN_TOKEN_CHARS} characters; make one with: openssl rand -hex 32"
        )
    return token


def _store(url: SecretStr) -> SecretStr:
    text = url.get_secret_value()
    if not text.startswith(STORES):
        raise ValueError(f"must start with one of {', '.join(STORES)}")
    if not text.startswith("memory:"):
        try:
            redis_url.parse(text)
        except StoreRefused as refused:
            raise ValueError(str(refused).removesuffix(".")) from None
    return url


class ServerSettings(Section):
    """Where the gateway listens, and how it starts and ends."""

    host: Text = Field(
        default="127.0.0.1",
        description="Address to listen on; 0.0.0.0 lets other machines and containers in.",
    )
    port: Annotated[Whole, Field(ge=0, le=65535)] = Field(
        default=8080, description="Port to listen on; change it where it is taken, 0 picks a free one."
    )
    workers: Count = Field(
        default=1,
        description="Processes; raise it when one core is not enough. More than one need a Redis in"
        " storage.url.",
    )
    admin_token: Annotated[OptionalSecret, AfterValidator(_long)] = Field(
        default=None,
        description="Opens the admin API to whoever holds this token (at least 32 characters); without it"
        " the admin API answers 404.",
    )
    max_body_bytes: Count = Field(
        default=10485760,
        description="Largest request body; raise it for big images, lower it to save memory.",
    )
    max_memory_bytes: Count | None = Field(
        default=None,
        description="Memory that one process may use: requests are refused from 85 % of it on, connections"
        " closed from 92 %, refused from 95 %. Absent: a worker's share of what the control group allows.",
    )
    pre_stop_s: SecondsOrZero = Field(
        default=0.0,
        description="Seconds for which the listener stays open after SIGTERM; set it where a load "
        "balancer needs time to notice.",
    )
    drain_s: SecondsOrZero = Field(
        default=600.0,
        description="Seconds for which running requests may finish; lower it to restart sooner.",
    )


class StorageSettings(Section):
    """What is remembered, and where."""

    url: Annotated[SecretStr, AfterValidator(_store)] = Field(
        default=SecretStr("memory://"),
        description="Where limits and budgets are counted; name a Redis so that several processes share "
        "them.",
    )
    data_dir: LocalPath = Field(
        default=Path("data"),
        description="Folder of the ledger and the audit log; put it on a disk that outlives the process.",
    )
