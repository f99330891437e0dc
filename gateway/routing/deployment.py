"""Deployments and model groups: what the configuration says can answer."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.accounting.pricing import Price
from gateway.providers.provider import Provider


@dataclass(slots=True, frozen=True)
class Timeouts:
    """Seconds. ``first_event_s`` None: a buffered answer's head may take until ``total_s``."""

    connect_s: float = 5.0
    first_event_s: float | None = None
    idle_s: float = 60.0
    total_s: float = 600.0


DEFAULT_FIRST_EVENT_S = 30.0


@dataclass(slots=True, frozen=True)
class Deployment:
    """One model at one provider. ``price`` None: unknown."""

    id: str
    provider: Provider
    model: str
    price: Price | None
    weight: int = 1


@dataclass(slots=True, frozen=True)
class Group:
    """What apps call a model: deployments that may answer for each other."""

    name: str
    deployments: tuple[Deployment, ...]
    timeouts: Timeouts
    max_output_tokens: int
    response_cap_bytes: int
    event_cap_bytes: int
