"""The whole configuration."""

from __future__ import annotations

import hashlib
import json
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import Field, SecretStr

from gateway.settings.alerts import AlertsSettings
from gateway.settings.auth import AuthSettings, KillSwitchSettings
from gateway.settings.models import ModelSettings
from gateway.settings.prices import PriceSettings
from gateway.settings.providers import ProviderSettings
from gateway.settings.redaction import PrivacySettings
from gateway.settings.section import Name, Section, Text
from gateway.settings.server import ServerSettings, StorageSettings
from gateway.settings.tenants import TenantSettings

_DIGEST_CHARS = 16
_HASH_CHARS = len("sha256:") + 8


class Settings(Section):
    """The configuration of the gateway: one file, or a folder of files merged by top-level key."""

    # Only ``load`` checks what sections say about each other; validating this model checks each field.

    server: ServerSettings = Field(
        default_factory=ServerSettings, description="Where the gateway listens, and how it ends."
    )
    storage: StorageSettings = Field(
        default_factory=StorageSettings,
        description="Where counts, the ledger and the audit log are kept.",
    )
    providers: dict[Name, ProviderSettings] = Field(
        default_factory=dict, description="Whom the gateway calls, by a name of your choice."
    )
    models: dict[Name, ModelSettings] = Field(
        default_factory=dict, description="Model groups, by the name that apps send."
    )
    aliases: dict[Name, Name] = Field(
        default_factory=dict,
        description="Other names of model groups, to move apps without touching them.",
    )
    tenants: dict[Name, TenantSettings] = Field(
        default_factory=dict, description="Who may use the gateway, by a name of your choice."
    )
    privacy: PrivacySettings = Field(
        default_factory=PrivacySettings,
        description="What redaction needs of the machine: a key for hashes, a model for names.",
    )
    auth: AuthSettings = Field(default_factory=AuthSettings, description="Other ways in than virtual keys.")
    kill_switches: tuple[KillSwitchSettings, ...] = Field(
        default=(),
        description="What is stopped, beside what the admin API has stopped; take an entry out to let it "
        "go on.",
    )
    prices: dict[Text, PriceSettings] = Field(
        default_factory=dict,
        description="Prices by the provider's model name (or kind/name), where the bundled table is wrong.",
    )

    alerts: AlertsSettings = Field(
        default_factory=AlertsSettings, description="Who is told what people should know."
    )

    @property
    def digest(self) -> str:
        """Names the effective configuration: 16 hexadecimal digits, other ones after any change."""
        canonical = json.dumps(self.model_dump(), default=_canonical, sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()[:_DIGEST_CHARS]

    def public(self) -> dict[str, Any]:
        """All of it for people to see: secrets are ``***``, hashes of keys are cut short."""
        shown: dict[str, Any] = json.loads(json.dumps(self.model_dump(), default=_shown))
        shown["storage"]["url"] = _without_user(self.storage.url)
        for name, provider in self.providers.items():
            shown["providers"][name]["proxy"] = provider.proxy and _without_user(provider.proxy)
        for tenant in shown["tenants"].values():
            for key in tenant["keys"]:
                key["hash"] = key["hash"][:_HASH_CHARS] + "…"
        return shown


def _canonical(value: object) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, Decimal):
        return format(value.normalize(), "f") if value else "0"
    if isinstance(value, date | Path):
        return str(value)
    raise TypeError(type(value).__name__)


def _shown(value: object) -> str:
    return "***" if isinstance(value, SecretStr) else _canonical(value)


def _without_user(url: SecretStr) -> str:
    try:
        parts = urlsplit(url.get_secret_value())
    except ValueError:
        return "***"
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}"
