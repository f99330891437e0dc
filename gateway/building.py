"""From valid settings to the objects that serve them."""

from __future__ import annotations

from gateway.accounting.money import to_nanousd
from gateway.accounting.pricing import Price, PriceBook, PriceTable
from gateway.building_privacy import names_of, policies_of
from gateway.building_terms import terms_of
from gateway.control.keys import Key, Tenant, expiry_s
from gateway.providers.openai import OpenAIProvider
from gateway.providers.provider import Provider
from gateway.providers.simulated import Script, SimulatedTransport
from gateway.providers.transport import Endpoint, NativeTransport, Transport
from gateway.routing.breaker import BreakerPolicy
from gateway.routing.deployment import Deployment, Group, Timeouts
from gateway.routing.health import Learned
from gateway.routing.quota import QuotaPolicy, Quotas
from gateway.routing.retry import RetryPolicy
from gateway.routing.strategies import STRATEGIES
from gateway.runtime import Snapshot
from gateway.settings import (
    DeploymentSettings,
    ModelSettings,
    PriceSettings,
    ProviderSettings,
    Settings,
    TenantSettings,
)
from gateway.telemetry.metrics import Metrics

_NOWHERE = Endpoint("http", "simulated.invalid", 80)


class Transports:
    """The engines of one process; their connection pools outlive every reload."""

    def __init__(self) -> None:
        self._native = NativeTransport()
        self._over_httpx: Transport | None = None

    def engine(self, settings: ProviderSettings) -> Transport:
        if settings.kind == "simulated":
            return SimulatedTransport(Script(**settings.simulate.model_dump()))
        return self._native if settings.transport == "native" else self._httpx()

    def _httpx(self) -> Transport:
        if self._over_httpx is None:
            from gateway.providers.transport.over_httpx import HttpxTransport

            self._over_httpx = HttpxTransport()
        return self._over_httpx

    def close_idle(self, now_s: float) -> None:
        for engine in self._all():
            engine.close_idle(now_s)

    async def aclose(self) -> None:
        for engine in self._all():
            await engine.aclose()

    def _all(self) -> list[Transport]:
        return [self._native] if self._over_httpx is None else [self._native, self._over_httpx]


class Builder:
    """Builds snapshots; what was learned and the engines of providers go from one to the next."""

    def __init__(
        self,
        transports: Transports,
        learned: Learned,
        metrics: Metrics,
        quotas: Quotas | None = None,
    ) -> None:
        self._quotas = quotas
        self._transports = transports
        self._learned = learned
        self._metrics = metrics

    def build(self, settings: Settings) -> Snapshot:
        table = PriceTable()
        book = PriceBook({name: price_of(one) for name, one in settings.prices.items()}, table)
        providers = {
            name: _provider(name, one, self._transports) for name, one in settings.providers.items()
        }
        to_larger = any("context_length" in one.fallback_on for one in settings.models.values())
        windows = table if to_larger else None
        groups = {
            name: self._group(name, one, providers, book, windows) for name, one in settings.models.items()
        }
        for name, one in settings.models.items():
            groups[name].fallbacks.extend(groups[other] for other in one.fallbacks)
        self._learned.retain(groups)
        if self._quotas is not None:
            self._quotas.retain(groups)
        tenants = {name: _tenant(name, one) for name, one in settings.tenants.items()}
        policies = policies_of(settings)
        return Snapshot(
            digest=settings.digest,
            tenants=tenants,
            keys=[key for name, one in settings.tenants.items() for key in _keys(tenants[name], one)],
            groups=groups,
            terms={
                name: terms_of(name, tenant, settings.aliases) for name, tenant in settings.tenants.items()
            },
            policies=policies,
            names=names_of(policies),
            aliases=settings.aliases,
            max_body_bytes=settings.server.max_body_bytes,
            metrics=self._metrics,
        )

    def _group(
        self,
        name: str,
        settings: ModelSettings,
        providers: dict[str, Provider],
        book: PriceBook,
        windows: PriceTable | None,
    ) -> Group:
        times = settings.timeouts
        retry = RetryPolicy(**settings.retry.model_dump())
        breaker = BreakerPolicy(**settings.breaker.model_dump())
        deployments = tuple(
            self._deployment(f"{name}-{position}", one, providers[one.provider], book, breaker)
            for position, one in enumerate(settings.deployments, 1)
        )
        return Group(
            name=name,
            deployments=deployments,
            strategy=STRATEGIES[settings.strategy],
            timeouts=Timeouts(times.connect_s, times.first_event_s, times.idle_s, times.total_s),
            retry=retry,
            budget=self._learned.budget(name, retry),
            fallback_on=frozenset(settings.fallback_on),
            max_output_tokens=settings.max_output_tokens,
            response_cap_bytes=settings.response_cap_bytes,
            event_cap_bytes=settings.event_cap_bytes,
            context_window=None if windows is None else _window(deployments, windows),
            hedges=self._learned.hedges(name, settings.hedge.share),
            continues=settings.on_cut == "continue",
            message=settings.degrade.message if settings.degrade.mode == "message" else None,
        )

    def _deployment(
        self,
        default_id: str,
        settings: DeploymentSettings,
        provider: Provider,
        book: PriceBook,
        breaker: BreakerPolicy,
    ) -> Deployment:
        own = None if settings.price is None else price_of(settings.price)
        name = settings.id or default_id
        return Deployment(
            id=name,
            provider=provider,
            model=settings.model,
            price=book.price(provider.kind, settings.model, own),
            health=self._learned.health(name, provider.account, settings.model, breaker),
            weight=settings.weight,
            quota=None if self._quotas is None else self._quotas.quota(name, _quota(settings)),
        )


def _window(deployments: tuple[Deployment, ...], table: PriceTable) -> int | None:
    known = [table.context_window(one.provider.kind, one.model) for one in deployments]
    return min((window for window in known if window is not None), default=None)


def _provider(name: str, settings: ProviderSettings, transports: Transports) -> Provider:
    endpoint, path = _NOWHERE, "/v1"
    if settings.base_url is not None:
        endpoint, path = Endpoint.of(
            str(settings.base_url),
            ca_file=settings.ca_file and str(settings.ca_file),
            max_connections=settings.max_connections,
            proxy=settings.proxy and settings.proxy.get_secret_value(),
            http2=settings.http2,
        )
    secret = settings.api_key.get_secret_value() if settings.api_key is not None else None
    return OpenAIProvider(
        name,
        transports.engine(settings),
        endpoint,
        path,
        secret,
        kind=settings.kind,
        stream_usage=settings.stream_usage,
        prefill=settings.prefill,
        cap_field=settings.cap_field,
    )


def price_of(settings: PriceSettings) -> Price:
    """What is written in the configuration, as rates."""
    cached = settings.cached_input_per_mtok_usd
    return Price.per_mtok(
        input=to_nanousd(settings.input_per_mtok_usd),
        output=to_nanousd(settings.output_per_mtok_usd),
        cached_input=None if cached is None else to_nanousd(cached),
    )


def _tenant(name: str, settings: TenantSettings) -> Tenant:
    return Tenant(name, _names(settings.models), settings.on_unknown_price == "flag")


def _quota(settings: DeploymentSettings) -> QuotaPolicy | None:
    return None if settings.quota is None else QuotaPolicy(settings.quota.rpm, settings.quota.tpm)


def _keys(tenant: Tenant, settings: TenantSettings) -> list[Key]:
    return [
        Key(
            id=key.id,
            tenant=tenant,
            digest=bytes.fromhex(key.hash.removeprefix("sha256:")),
            expires_s=None if key.expires is None else expiry_s(key.expires),
            models=None if key.models is None else _names(key.models),
            tags=dict(key.tags),
            strict=key.strict,
        )
        for key in settings.keys
    ]


def _names(models: list[str] | tuple[str, ...]) -> frozenset[str] | None:
    return None if "*" in models else frozenset(models)
