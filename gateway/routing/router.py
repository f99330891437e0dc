"""From a model group to the deployments to try, in order."""

from __future__ import annotations

from gateway.routing.deployment import Deployment, Group


def plan(group: Group) -> list[tuple[Group, Deployment]]:
    """The candidates for one Call. Every strategy of one deployment is that deployment."""
    return [(group, deployment) for deployment in group.deployments]
