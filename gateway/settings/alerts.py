"""``alerts``: who is told what people should know."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr

from gateway.settings.section import OptionalSecret, Section


def _url(url: SecretStr | None) -> SecretStr | None:
    if url is not None:
        parts = urlsplit(url.get_secret_value())
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("must be a URL such as https://hooks.example.com/…")
    return url


class AlertsSettings(Section):
    """Where alerts go, beside the log and the metrics."""

    webhook_url: Annotated[OptionalSecret, AfterValidator(_url)] = Field(
        default=None,
        description="Budget alerts are posted there as JSON; a chat's or pager's incoming hook, say.",
    )
