"""What a process holds: a Snapshot for each configuration, and the Runtime that outlives them all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from gateway.admission.terms import Terms
from gateway.control.keys import Key, KeyRing, Tenant
from gateway.errors import Forbidden, NotFound
from gateway.exchange import Operation
from gateway.privacy.policy import Policy
from gateway.routing.deployment import Deployment, Group
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.route_metrics import RouteMetrics


@dataclass(slots=True, frozen=True)
class Route:
    """What keys with the same rights asking for one model resolve to. ``unpriced``: of no deployment is a
    price known. ``policy``: what happens to personal data; None: nothing is looked for.

    ``bind`` makes the metrics of a deployment that answers on this route.
    """

    group: Group
    terms: Terms
    unpriced: bool
    bind: Callable[[Deployment], RouteMetrics]
    policy: Policy | None = None
    _bound: dict[Deployment, RouteMetrics] = field(default_factory=dict)

    def metrics(self, deployment: Deployment | None = None) -> RouteMetrics:
        """Of ``deployment``; None: where nobody answered, the group's first one."""
        answered = deployment or self.group.deployments[0]
        bound = self._bound.get(answered)
        if bound is None:
            bound = self._bound[answered] = self.bind(answered)
        return bound


class Snapshot:
    """All that the configuration decides; immutable, but for the routes bound when first asked for.

    ``names``: by tenant, the policy for cost tags and request ids.
    """

    __slots__ = (
        "_metrics",
        "_routes",
        "aliases",
        "digest",
        "features",
        "groups",
        "keys",
        "max_body_bytes",
        "names",
        "policies",
        "tenants",
        "terms",
    )

    def __init__(
        self,
        *,
        digest: str,
        tenants: Mapping[str, Tenant],
        keys: Iterable[Key],
        groups: Mapping[str, Group],
        terms: Mapping[str, Terms],
        policies: Mapping[tuple[str, str | None], Policy | None],
        names: Mapping[str, Policy],
        aliases: Mapping[str, str],
        max_body_bytes: int,
        metrics: Metrics,
    ) -> None:
        keys = list(keys)
        self.digest = digest
        self.tenants = tenants
        self.keys = KeyRing(keys)
        self.groups = groups
        self.terms = terms
        self.policies = policies
        self.names = names
        self.max_body_bytes = max_body_bytes
        self.aliases = aliases
        self._metrics = metrics
        self.features = frozenset(key.tags["feature"] for key in keys if "feature" in key.tags)
        self._routes: dict[tuple[str, frozenset[str] | None, str, Operation], Route] = {}

    def route(self, key: Key, model: str, operation: Operation) -> Route:
        """Raises ``NotFound`` for a name that is not configured, ``Forbidden`` for one not allowed."""
        names = (key.tenant.name, key.models, model, operation)
        route = self._routes.get(names)
        if route is None:
            route = self._routes[names] = self._bind(key, model, operation)
        return route

    def policy(self, tenant: str, group: str | None) -> Policy | None:
        """What happens to personal data of ``tenant`` at a model group, None: at those without a policy of
        their own. None if nothing is looked for."""
        if (tenant, group) in self.policies:
            return self.policies[tenant, group]
        return self.policies.get((tenant, None))

    def names_for(self, key: Key) -> list[str]:
        """Groups and aliases that the key may ask for, sorted."""
        return sorted(name for name in (*self.groups, *self.aliases) if self._allowed(key, name))

    @staticmethod
    def not_found(model: str) -> NotFound:
        return NotFound(
            f"There is no model {model[:100]!r} here; GET /v1/models lists those that this key may use.",
            code="model_not_found",
            param="model",
        )

    def _allowed(self, key: Key, model: str) -> bool:
        """A name may be allowed as it is asked for, or as the group that it stands for."""
        group = self.aliases.get(model, model)
        allowed = (key.tenant.models, key.models)
        return all(names is None or model in names or group in names for names in allowed)

    def _bind(self, key: Key, model: str, operation: Operation) -> Route:
        group = self.groups.get(self.aliases.get(model, model))
        if group is None:
            raise self.not_found(model)
        if not self._allowed(key, model):
            raise Forbidden(f"This key may not use the model {model!r}.", param="model")
        name = group.name

        def bind(deployment: Deployment) -> RouteMetrics:
            return self._metrics.route(
                tenant=key.tenant.name,
                model=name,
                operation=operation.value,
                provider=deployment.provider.name,
                deployment=deployment.id,
                response_model=deployment.model,
                features=self.features,
            )

        tenant = key.tenant.name
        unpriced = all(one.price is None for one in group.deployments)
        return Route(group, self.terms[tenant], unpriced, bind, self.policy(tenant, name))
