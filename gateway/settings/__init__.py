"""The configuration: read, checked as a whole, and handed on as frozen settings."""

from gateway.settings.auth import AuthSettings, JwtSettings, KillSwitchSettings
from gateway.settings.faults import ConfigInvalid, Fault
from gateway.settings.load import load, loads
from gateway.settings.models import DeploymentSettings, ModelSettings
from gateway.settings.prices import PriceSettings
from gateway.settings.providers import ProviderSettings
from gateway.settings.redaction import PrivacySettings, RedactionFields, RedactionSettings
from gateway.settings.root import Settings
from gateway.settings.schema import json_schema
from gateway.settings.server import ServerSettings, StorageSettings
from gateway.settings.tenants import BudgetSettings, KeySettings, LimitsSettings, TenantSettings

__all__ = [
    "AuthSettings",
    "BudgetSettings",
    "ConfigInvalid",
    "DeploymentSettings",
    "Fault",
    "JwtSettings",
    "KeySettings",
    "KillSwitchSettings",
    "LimitsSettings",
    "ModelSettings",
    "PriceSettings",
    "PrivacySettings",
    "ProviderSettings",
    "RedactionFields",
    "RedactionSettings",
    "ServerSettings",
    "Settings",
    "StorageSettings",
    "TenantSettings",
    "json_schema",
    "load",
    "loads",
]
