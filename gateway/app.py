"""The composition root: the only file that sees everything. It wires, starts and ends the parts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from gateway.accounting.settle import Settler
from gateway.accounting.settlement import Books
from gateway.accounting.writer import FolderLock
from gateway.admission_parts import AdmissionParts
from gateway.answers import Answers
from gateway.building import Builder, Transports
from gateway.building_privacy import names_of, policies_of
from gateway.caching.idempotency import Idempotency
from gateway.calls.drain import Drains
from gateway.calls.inline import Dispatcher
from gateway.control.bytes_in_flight import BytesInFlight
from gateway.control.concurrency import Concurrency
from gateway.control.live import LiveExchanges
from gateway.control.memory import Memory, Pressure, limit_bytes, watch
from gateway.control_parts import ControlParts
from gateway.detection import Detection
from gateway.edge.admin import DeploymentState, admin_router
from gateway.edge.asgi import DataPlane
from gateway.edge.control import control_router
from gateway.edge.line import Line
from gateway.edge.ops import ops_app
from gateway.edge.spend import spend_router
from gateway.edge.tenants import TenantState, tenants_router
from gateway.interrupt import Reason
from gateway.ledger_parts import LedgerParts
from gateway.middleware.admit import Admit
from gateway.middleware.audit import Audit
from gateway.middleware.authenticate import Authenticate
from gateway.middleware.idempotent import Idempotent
from gateway.middleware.kill_switch import KillSwitch
from gateway.middleware.limits import Limits
from gateway.middleware.measure import Measure
from gateway.middleware.models import Models
from gateway.middleware.pseudonyms import Pseudonyms
from gateway.middleware.receive import Receive
from gateway.middleware.redact import Redact
from gateway.middleware.screen import Screen, ScreenedDispatch
from gateway.pipeline import Pipeline
from gateway.privacy.coverage import coverage_events
from gateway.privacy.guarded import concealed
from gateway.privacy.policy import Policy
from gateway.reload import Reload, check_restart
from gateway.routing.breaker import State
from gateway.routing.deployment import Deployment, Group
from gateway.routing.health import Learned
from gateway.routing.leasing import Metering
from gateway.routing.peers import Peers
from gateway.routing.quota import Quotas
from gateway.runtime import Snapshot
from gateway.settings import Settings
from gateway.stage import Middleware
from gateway.storage.opening import open_store
from gateway.tasks import Tasks
from gateway.telemetry.lag import LagProbe
from gateway.telemetry.log import Log
from gateway.telemetry.metrics import Metrics

IN_FLIGHT_BYTES = 256 << 20
IDLE_CHECK_S = 5.0
ALONE = (
    "another gateway still runs with {}: with memory:// each would count for itself;"
    " stop it, name another storage.data_dir, or name a Redis in storage.url"
)

_STATES: dict[State, int] = {"closed": 0, "half-open": 1, "open": 2}

Load = Callable[[], Settings]


class App:
    """One process. Made inside its event loop; ``asgi`` is what the server calls.

    ``load`` reads the configuration again; ``path`` is what is watched for changes (None: nothing);
    ``line``: to the other workers, if there are any.
    Raises ``OSError`` and ``WriterLocked`` when the ledger cannot be kept in ``storage.data_dir``.
    """

    def __init__(
        self, settings: Settings, load: Load, path: Path | None, log: Log, line: Line | None = None
    ) -> None:
        loop = asyncio.get_running_loop()
        self._settings = settings
        self._log = log
        self._draining = self._covers = False
        self._secrets: set[bytes] = set()
        self.metrics = Metrics(CollectorRegistry(auto_describe=False))
        self._tasks = Tasks(self._failed)
        self._lag = LagProbe(loop)
        self.live = LiveExchanges()
        self.concurrency = Concurrency()
        self.memory = Memory(None, self._memory_changed)
        self.uploads = BytesInFlight(max(IN_FLIGHT_BYTES, 4 * settings.server.max_body_bytes))
        self._transports = Transports()
        data_dir = Path(settings.storage.data_dir)
        url = settings.storage.url.get_secret_value()
        self._alone = FolderLock(data_dir, ALONE.format(data_dir)) if url.startswith("memory:") else None
        self.ledger = ledger = LedgerParts(data_dir, log, self.metrics, self._tasks)
        self.store = open_store(url, ledger.journal.writer)
        self.admission = AdmissionParts(
            self.store,
            lambda: self.snapshot.terms,
            ledger.charged,
            self._webhook_url,
            ledger.swept,
            log,
            self.metrics,
            self._tasks,
            ledger.left_open,
        )
        ledger.follow(self.store, self.admission.funds, self.admission.count)
        self.idempotency = Idempotency(self.store, self._tasks.spawn)
        self.detection = Detection(self._tasks.keep, log.event, settings.privacy.processes)
        self._books = Books(ledger.journal, log, self.metrics, self.admission.controller.settle)
        self._settler = Settler(self._failed)
        self.dispatch = Dispatcher(Drains(self._tasks.spawn))
        self._learned = Learned(self._breaker_changed, self.concurrency.share)
        self.operators = ControlParts(self.store, data_dir, self.live, self._tasks, self.metrics, log)
        self._peers = Peers(self.store, self._learned.all, self._tasks.spawn)
        fleet = self.admission.controller.without_store
        metering = Metering(self.store, lambda: fleet.fleet, self._tasks.spawn)
        self._builder = Builder(self._transports, self._learned, self.metrics, Quotas(metering))
        self.snapshot = self._build(settings)
        self._reload = Reload(
            lambda: self._prepared(load()), path, self._adopt, self._tasks, log, self.metrics
        )
        screened = ScreenedDispatch(self.dispatch, self.detection)
        pipeline = Pipeline(self.chain(), screened, self._failed)
        spend = spend_router(ledger.follower.source, ledger.follower.catch_up)
        control = control_router(self.operators.control, lambda: self.snapshot, log, self._admin_token)
        tenants = tenants_router(self._tenants, lambda: self._settings.public())
        own = (self._readiness, self._deployments, self._refresh_metrics)
        self._answers = Answers(*own, self.metrics, line)
        admin = admin_router(self._admin_token, self._answers.deployments, [tenants, spend, control])
        ops = ops_app(self._answers.readiness, self._answers.metrics, self._failed, admin)
        self.asgi = DataPlane(pipeline, lambda: self.snapshot, ops)

    def chain(self) -> tuple[Middleware, ...]:
        """The order of a request. The place of Cache, when it comes, is before Screen."""
        control, pseudonyms = self.operators.control, Pseudonyms(self.detection)
        return (
            Audit(self._log, self.live, self._concealed),
            Measure(self.metrics),
            Authenticate(self.operators.registry, pseudonyms.known),
            Admit(self.concurrency, self.memory),
            Models(),
            Receive(self.uploads),
            KillSwitch(control),
            pseudonyms,
            Limits(self.ledger.journal, self._settler, self._books, self.admission.controller, control),
            Redact(self.detection, self.metrics),
            Idempotent(self.idempotency),
            Screen(self.detection),
        )

    async def connect(self) -> None:
        """Before anything is served. A store that does not answer is waited for later; raises
        ``StoreRefused`` for one that cannot be used."""
        await self.store.start()
        for warning in self.store.warnings:
            self._log.event("storage_warning", level="warning", text=warning)
        await self.detection.start()
        await self.operators.control.catch_up_quietly()
        await self.ledger.connect(self.store)
        await self.admission.connect()

    def start(self) -> None:
        self._answers.start(self._tasks)
        self.admission.start()
        self._tasks.keep(self.idempotency.run, "idempotency")
        self.operators.start()
        self._tasks.spawn(self._peers.catch_up(), "breaker news")
        self.ledger.follower.start(self._tasks.spawn)
        self._lag.start(self.concurrency.observe)
        self._tasks.keep(self._close_idle, "idle connections")
        self._tasks.keep(lambda: watch(self.memory), "memory")
        self._reload.start()

    def drain(self) -> None:
        """Not ready any more; what runs goes on."""
        self._draining = True
        self._log.event("draining", running=len(self.live))

    def end_running(self) -> None:
        """Ends what still runs, with an error that says why."""
        self.live.fire(Reason.DRAINING)

    async def stop(self) -> None:
        """Writes what has been settled, then lets go of everything; raises ``RowsLost`` when the ledger
        could not take it all."""
        await self.dispatch.drains.close()
        await self._settler.close()
        await self.admission.reconciler.drained()
        await self.idempotency.drained()
        await self.detection.aclose()
        await self.ledger.follower.aclose()
        await self._tasks.close()
        await self._transports.aclose()
        await self.store.aclose()
        self._lag.stop()
        lost = await self.ledger.close()
        if self._alone is not None:
            self._alone.release()
        await self._answers.close()
        self._log.event("stopped", rows_lost=len(lost))
        for row in lost:
            self._log.event("ledger_row_lost", level="error", row=row)
        if lost:
            raise RowsLost(f"{len(lost)} rows of the ledger could not be written; they are in the log")

    def reload(self) -> None:
        """Takes up the files as they are now, in the background."""
        self._reload.ask()

    def _adopt(self, settings: Settings) -> None:
        check_restart(self._settings, settings)
        self.snapshot = self._build(settings)
        self._settings = settings

    def _build(self, settings: Settings) -> Snapshot:
        snapshot = self._builder.build(settings)
        policies = [*snapshot.policies.values(), *snapshot.names.values()]
        self._adopt_policies([policy for policy in policies if policy is not None])
        self.operators.adopt(settings, snapshot)
        share = limit_bytes(processes=settings.server.workers)
        self.memory.limit = settings.server.max_memory_bytes or share
        self._secrets.update(secrets_of(settings))  # what runs may still show a former one
        self._log.set_secrets(self._secrets)
        self.metrics.set_config(settings.digest)
        self.metrics.retain(
            list(settings.tenants),
            list(snapshot.groups),
            list(self._learned.all()),
        )
        for name, health in self._learned.all().items():
            self.metrics.breaker_state.child(name).set(_STATES[health.breaker.state()])
            self.metrics.cooldown.child(name).set_source(health.cooldown_left_s)
        return snapshot

    def _prepared(self, settings: Settings) -> Settings:
        """In another thread: what takes long to build is built before it is asked for."""
        policies = policies_of(settings)
        held = [*policies.values(), *names_of(policies).values()]
        self.detection.prepare(policy.detector for policy in held if policy is not None)
        return settings

    def _adopt_policies(self, policies: list[Policy]) -> None:
        self.detection.adopt(policy.detector for policy in policies)
        if policies and not self._covers:
            self._covers = True
            for event in coverage_events():
                self._log.event("redaction_coverage", **event)

    def _concealed(self, policy: Policy, text: str) -> str:
        return concealed(self.detection.detector(policy.detector), text)

    def _memory_changed(self, pressure: Pressure) -> None:
        self.metrics.memory_pressure.set(pressure)
        level = "warning" if pressure else "info"
        self._log.event("memory_pressure", level=level, pressure=int(pressure), limit=self.memory.limit)

    def _breaker_changed(self, deployment: str, state: State) -> None:
        self.metrics.breaker_state.child(deployment).set(_STATES[state])
        self._peers.changed(deployment, state)
        self._log.event("breaker", level="warning", deployment=deployment, state=state)

    def _readiness(self) -> dict[str, Any]:
        reasons = []
        if self._draining:
            reasons.append("draining")
        if not self.ledger.journal.healthy:
            reasons.append(f"ledger: {self.ledger.journal.error}")
        state: dict[str, Any] = {
            "ready": not reasons,
            "reasons": reasons,
            "config": {"hash": self.snapshot.digest, "rejected": self._reload.rejected},
            "storage": {"degraded": self.store.lost is not None, "lost": self.store.lost},
            "control": {"stale_s": round(self.operators.control.watch.stale_s(), 3)},
        }
        return state

    def _admin_token(self) -> str | None:
        token = self._settings.server.admin_token
        return None if token is None else token.get_secret_value()

    def _webhook_url(self) -> str | None:
        url = self._settings.alerts.webhook_url
        return None if url is None else url.get_secret_value()

    def _deployments(self) -> list[DeploymentState]:
        now_s = time.monotonic()
        return [
            deployment_state(group, one, now_s)
            for group in self.snapshot.groups.values()
            for one in group.deployments
        ]

    async def _tenants(self) -> list[TenantState]:
        tenants = self._settings.tenants
        return await self.admission.tenant_states(
            lambda name: None if "*" in tenants[name].models else list(tenants[name].models)
        )

    def _refresh_metrics(self) -> None:
        self.metrics.event_loop_lag.set(self._lag.max_60s())
        degraded = not self.ledger.journal.healthy or self.store.lost is not None
        self.metrics.storage_degraded.set(1 if degraded else 0)

    async def _close_idle(self) -> None:
        while True:
            await asyncio.sleep(IDLE_CHECK_S)
            self._transports.close_idle(time.monotonic())

    def _failed(self, event: str, error: BaseException, request_id: str) -> None:
        self._log.failure(event, error, request_id=request_id)


class RowsLost(Exception):
    """The ledger could not be written before the end."""


def password_of(url: SecretStr) -> SecretStr | None:
    """What an URL holds that must never be seen."""
    try:
        password = urlsplit(url.get_secret_value()).password
    except ValueError:
        return None
    return None if not password else SecretStr(unquote(password))


def secrets_of(settings: Settings) -> list[bytes]:
    """What must never be seen in a log."""
    providers = settings.providers.values()
    keys = [one.api_key for one in providers] + [one.proxy for one in providers]
    keys += [settings.server.admin_token, settings.alerts.webhook_url, password_of(settings.storage.url)]
    return [key.get_secret_value().encode() for key in keys if key is not None]


def deployment_state(group: Group, deployment: Deployment, now_s: float) -> DeploymentState:
    """What operators see of a deployment."""
    health = deployment.health
    alone = not group.may_leave(deployment, now_s)
    usual_s = health.latency.quantile_s(0.5, least=1)
    return DeploymentState(
        id=deployment.id,
        model=group.name,
        provider=deployment.provider.name,
        upstream_model=deployment.model,
        weight=deployment.weight,
        callable=health.stopped is None and deployment.free_at_s(now_s, alone=alone) <= now_s,
        stopped=health.stopped is not None,
        breaker=health.breaker.state(),
        open_for_s=round(max(health.breaker.free_at_s(now_s) - now_s, 0.0), 3),
        cooldown_s=round(health.cooldown_left_s(), 3),
        quota_left=None if deployment.quota is None else deployment.quota.left(),
        in_flight=health.in_flight,
        latency_s=None if usual_s is None else round(usual_s, 6),
    )
