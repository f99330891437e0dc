"""What several workers say of themselves, as one answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gateway.edge.admin import DeploymentState
from gateway.edge.line import Told

SILENT_S = 3.0
"""A worker that has not said anything for so long is not ready; it says something every second."""
_BREAKERS = ("closed", "half-open", "open")


def readiness(own: dict[str, Any], workers: Sequence[Told]) -> dict[str, Any]:
    """Ready when all are; of what they say otherwise, the worst. ``own``: of the worker that was asked."""
    reasons = [f"worker {one.number}: {reason}" for one in workers for reason in _reasons(one)]
    states = [one.state["readiness"] for one in workers if one.state is not None] or [own]
    rejected = (state["config"]["rejected"] for state in states)
    lost = (state["storage"]["lost"] for state in states)
    return {
        "ready": not reasons,
        "reasons": reasons,
        "config": {"hash": own["config"]["hash"], "rejected": next(filter(None, rejected), None)},
        "storage": {
            "degraded": any(state["storage"]["degraded"] for state in states),
            "lost": next(filter(None, lost), None),
        },
        "control": {"stale_s": max(state["control"]["stale_s"] for state in states)},
        "workers": [_worker(one) for one in workers],
    }


def _reasons(told: Told) -> list[str]:
    if told.state is None:
        return ["is being started"]
    if told.age_s > SILENT_S:
        return [f"has not answered for {told.age_s:.0f} s"]
    return list(told.state["readiness"]["reasons"])


def _worker(told: Told) -> dict[str, Any]:
    state = told.state or {}
    config = state.get("readiness", {}).get("config", {})
    return {
        "worker": told.number,
        "pid": state.get("pid"),
        "ready": not _reasons(told),
        "config": config.get("hash"),
    }


def deployments(own: list[DeploymentState], workers: Sequence[Told]) -> list[DeploymentState]:
    """Those that the asked worker has configured, by the worst that any worker knows of each; requests in
    flight are added up."""
    told = [
        DeploymentState.model_validate(state)
        for one in workers
        for state in (one.state or {}).get("deployments", [])
    ]
    return [_worst([one, *(other for other in told if _same(one, other))]) for one in own]


def _same(one: DeploymentState, other: DeploymentState) -> bool:
    return (one.id, one.model, one.upstream_model) == (other.id, other.model, other.upstream_model)


def _worst(states: list[DeploymentState]) -> DeploymentState:
    """The first is the asked worker's own, which is among the others once more."""
    others = states[1:] or states
    latencies = [one.latency_s for one in others if one.latency_s is not None]
    worst = {
        "callable": all(one.callable for one in others),
        "stopped": any(one.stopped for one in others),
        "breaker": max((one.breaker for one in others), key=_BREAKERS.index),
        "open_for_s": max(one.open_for_s for one in others),
        "cooldown_s": max(one.cooldown_s for one in others),
        "quota_left": _least(others),
        "in_flight": sum(one.in_flight for one in others),
        "latency_s": max(latencies, default=None),
    }
    return states[0].model_copy(update=worst)


def _least(states: list[DeploymentState]) -> dict[str, int] | None:
    known = [one.quota_left for one in states if one.quota_left is not None]
    names = [name for name in known[0] if all(name in one for one in known)] if known else []
    return {name: min(one[name] for one in known) for name in names} if known else None
