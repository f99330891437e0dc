"""``tenants``: who may ask, for what, and how much."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from gateway.settings.redaction import RedactionSettings
from gateway.settings.section import Count, Flag, Moment, Name, NameOrAll, Number, Section, Text, Usd

MOST_USD = 9_000_000_000
"""Counted in nano-dollars, more would not fit into 63 bits."""


class LimitsSettings(Section):
    """Rates; a limit that is absent does not apply."""

    rpm: Count | None = Field(
        default=None,
        description="Requests a minute; lower it to protect what is behind.",
    )
    tpm: Count | None = Field(
        default=None,
        description="Tokens a minute; lower it to spread a shared quota.",
    )
    concurrency: Count | None = Field(
        default=None, description="Requests at a time; lower it against clients that open too many."
    )


class BudgetSettings(Section):
    """Money that may be spent."""

    usd: Annotated[Usd, Field(le=MOST_USD)] = Field(description="US dollars that may be spent in a period.")
    period: Literal["hour", "day", "week", "month", "total"] = Field(
        default="month", description="When spending starts again at zero, in UTC; total never does."
    )
    alert_at: tuple[Annotated[Number, Field(gt=0, le=1)], ...] = Field(
        default=(),
        description="Shares of the budget at which an alert is given; add some to hear of it in time.",
    )


class KeySettings(Section):
    """A virtual key, known by its hash alone."""

    id: Name = Field(description="Name of the key in the ledger and in metrics.")
    hash: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")] = Field(
        description="sha256: and the hash of the secret; llm-gateway keys new makes both."
    )
    expires: Moment | None = Field(
        default=None,
        description="Last day (UTC) on which the key works, or a time; set it for keys that leave the "
        "house.",
    )
    models: tuple[NameOrAll, ...] | None = Field(
        default=None, description="Models that this key may use, to give it less than its tenant."
    )
    tags: dict[Text, Text] = Field(
        default_factory=dict,
        description="Cost tags of every request of this key; clients cannot change them.",
    )
    strict: Flag = Field(
        default=False,
        description="Refuses this key when revocations have not been heard of for 60 s, because the store "
        "is away.",
    )
    limits: LimitsSettings | None = Field(
        default=None, description="Rates of this key alone, to give it a part of its tenant's."
    )
    budget: BudgetSettings | None = Field(
        default=None, description="Most that this key may spend of its tenant's budget."
    )


class StorageLossSettings(Section):
    """What happens while the store cannot be reached."""

    limits: Literal["deny", "allow", "local_share"] = Field(
        default="local_share",
        description="deny refuses, allow lets all through, local_share counts in each process.",
    )
    budget: Literal["deny", "allow", "lease"] = Field(
        default="lease",
        description="deny refuses, allow lets all through, lease spends what was set aside.",
    )


class TenantSettings(Section):
    """A team or an app: its keys and what they may do."""

    models: tuple[NameOrAll, ...] = Field(
        description='Model groups and aliases that may be asked for; ["*"] for all.'
    )
    keys: tuple[KeySettings, ...] = Field(
        default=(), description="Virtual keys; one for each app can be revoked alone."
    )
    limits: LimitsSettings | None = Field(
        default=None, description="Rates of the tenant over all models; absent, there are none."
    )
    model_limits: dict[Name, LimitsSettings] = Field(
        default_factory=dict, description="Rates for single models, for what is scarce or dear."
    )
    budget: BudgetSettings | None = Field(
        default=None, description="Most that the tenant may spend; absent, there is no bound."
    )
    feature_limits: dict[Text, LimitsSettings] = Field(
        default_factory=dict,
        description="Rates by the cost tag feature, so that one feature starves no other.",
    )
    feature_budgets: dict[Text, BudgetSettings] = Field(
        default_factory=dict, description="Budgets by the cost tag feature, to know what each may cost."
    )
    user_limits: LimitsSettings | None = Field(
        default=None,
        description="Rates of each user that the cost tag user names, against single heavy ones.",
    )
    user_budget: BudgetSettings | None = Field(default=None, description="Most that each user may spend.")
    redaction: RedactionSettings = Field(
        default_factory=RedactionSettings, description="Keeps personal data from providers."
    )
    on_storage_loss: StorageLossSettings = Field(
        default_factory=StorageLossSettings,
        description="Whether to be strict or open while the store is away.",
    )
    on_unknown_price: Literal["deny", "flag"] = Field(
        default="deny",
        description="flag lets requests through whose price nobody knows, and marks them.",
    )
    on_disconnect: Literal["abort", "drain"] = Field(
        default="abort",
        description="drain reads the answer to its end when the client has left, for exact costs.",
    )
