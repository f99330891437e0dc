"""``models``: groups of deployments, and what happens when one fails."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from gateway.settings.prices import PriceSettings
from gateway.settings.section import Count, Name, Number, Seconds, SecondsOrZero, Section, Text

Fraction = Annotated[Number, Field(ge=0, le=1)]
Reason = Literal["error", "rate_limit", "timeout", "context_length", "content_filter"]


class QuotaSettings(Section):
    """What the provider allows, over all processes of the gateway."""

    rpm: Count | None = Field(
        default=None, description="Requests a minute; set it a little below what the provider allows."
    )
    tpm: Count | None = Field(
        default=None, description="Tokens a minute; set it a little below what the provider allows."
    )


class DeploymentSettings(Section):
    """One model at one provider."""

    id: Name | None = Field(
        default=None,
        description="Name in headers, metrics and the ledger; absent: the group's with -1, -2, ….",
    )
    provider: Name = Field(description="The entry of providers that is called.")
    model: Text = Field(description="The provider's own model name; pin a version to control upgrades.")
    weight: Count = Field(
        default=1,
        description="Share of the traffic beside the other deployments of the group.",
    )
    price: PriceSettings | None = Field(
        default=None,
        description="Price of this deployment, where it differs from the list; absent: the price table.",
    )
    quota: QuotaSettings | None = Field(
        default=None,
        description="The provider's own limits: who has used them up is passed over, and nobody refused.",
    )


class TimeoutsSettings(Section):
    """How long the gateway waits for a provider."""

    connect_s: Seconds = Field(
        default=5.0,
        description="Seconds to connect; lower it to fail over sooner.",
    )
    first_event_s: Seconds | None = Field(
        default=None,
        description="Seconds to the first event of a stream (absent: 30) or the head of a buffered answer"
        " (absent: total_s); raise it for models that think long.",
    )
    idle_s: Seconds = Field(
        default=60.0,
        description="Seconds between two events; raise it for models that pause.",
    )
    total_s: Seconds = Field(
        default=600.0, description="Seconds for the whole answer; raise it for very long ones."
    )


class RetrySettings(Section):
    """How often another call is made for one request."""

    attempts: Count = Field(
        default=3,
        description="Upstream calls for one request, fallbacks included; 1 never tries again.",
    )
    backoff_s: SecondsOrZero = Field(
        default=0.5,
        description="Seconds before the same deployment is tried again, doubled each time; raise it to be"
        " gentle.",
    )
    backoff_max_s: SecondsOrZero = Field(
        default=8.0, description="Longest wait in seconds; lower it when clients wait."
    )
    budget: Fraction = Field(
        default=0.1,
        description="Share of requests that may be retried; lower it to spare a provider in trouble.",
    )


class BreakerSettings(Section):
    """When a deployment is left alone for a while."""

    failures: Count = Field(
        default=5, description="Failures in a row that open it; lower it to leave a broken one sooner."
    )
    error_rate: Fraction = Field(
        default=0.5, description="Share of failures that opens it; raise it for flaky upstreams."
    )
    min_requests: Count = Field(
        default=20,
        description="Requests in the window before the share counts; raise it against false alarms.",
    )
    window_s: Seconds = Field(
        default=10.0,
        description="Seconds over which the share is counted; raise it where traffic is thin.",
    )
    open_s: Seconds = Field(
        default=30.0, description="Seconds until one request tries again; raise it for slow recoveries."
    )


class HedgeSettings(Section):
    """A second deployment of the group is asked beside one that is late."""

    share: Annotated[Number, Field(ge=0, le=0.5)] = Field(
        default=0.0,
        description="Share of requests that may be sent twice, such as 0.02; it costs that much more.",
    )


class CacheSettings(Section):
    """Answers that are given again."""

    mode: Literal["off", "exact", "semantic"] = Field(
        default="off",
        description="exact answers equal requests again, semantic similar ones too; saves time and money.",
    )
    ttl_s: Seconds = Field(
        default=3600.0,
        description="Seconds for which an answer is good; lower it where answers age fast.",
    )


class DegradeSettings(Section):
    """What is answered when no deployment does."""

    mode: Literal["none", "stale_cache", "message"] = Field(
        default="none",
        description="stale_cache gives an old answer, message a fixed one, none an error.",
    )
    stale_s: Seconds | None = Field(
        default=None,
        description="How old, in seconds beyond ttl_s, an answer may be (mode: stale_cache).",
    )
    message: Annotated[str, Field(min_length=1, max_length=8192)] | None = Field(
        default=None, description="What to say instead of an answer (mode: message)."
    )


class ModelSettings(Section):
    """A model group: the name that apps send, and who answers."""

    deployments: Annotated[tuple[DeploymentSettings, ...], Field(min_length=1)] = Field(
        description="Who can answer; add more for capacity and for outages."
    )
    strategy: Literal["weighted", "least_latency", "least_busy", "lowest_cost", "ordered"] = Field(
        default="weighted",
        description="How a deployment is chosen: by share, speed, load, price or the order here.",
    )
    fallbacks: tuple[Name, ...] = Field(
        default=(), description="Groups that are tried in this order when this one fails."
    )
    fallback_on: tuple[Reason, ...] = Field(
        default=("error", "rate_limit", "timeout"),
        description="Which failures lead to the fallbacks; add context_length for a group with a larger "
        "window.",
    )
    timeouts: TimeoutsSettings = Field(
        default_factory=TimeoutsSettings, description="How long to wait; raise for slow models."
    )
    retry: RetrySettings = Field(
        default_factory=RetrySettings, description="How often to try again; lower to save money."
    )
    breaker: BreakerSettings = Field(
        default_factory=BreakerSettings,
        description="When a failing deployment is left alone for a while.",
    )
    hedge: HedgeSettings = Field(
        default_factory=HedgeSettings, description="Asks twice where waiting is worse than paying twice."
    )
    cache: CacheSettings = Field(
        default_factory=CacheSettings, description="Gives answers again where requests repeat."
    )
    degrade: DegradeSettings = Field(
        default_factory=DegradeSettings, description="What is answered when nobody answers."
    )
    on_cut: Literal["fail", "continue"] = Field(
        default="fail",
        description="continue asks another deployment for the rest of a stream that broke off.",
    )
    max_output_tokens: Count = Field(
        default=4096,
        description="Output tokens to reserve when the client names none; lower it to reserve less.",
    )
    response_cap_bytes: Count = Field(
        default=33554432,
        description="Largest answer that is held in memory; raise it for images and big embeddings.",
    )
    event_cap_bytes: Count = Field(
        default=1048576,
        description="Largest single event of a stream; raise it for streams with images or audio.",
    )
