"""The composition root: the only file that sees everything. It wires, starts and ends the parts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from gateway.accounting.journal import Journal, claim_writer
from gateway.accounting.pricing import PriceTableError
from gateway.accounting.settle import Settler
from gateway.building import Builder, Transports
from gateway.calls.inline import dispatch
from gateway.control.bytes_in_flight import BytesInFlight
from gateway.control.concurrency import Concurrency
from gateway.control.live import LiveExchanges
from gateway.edge.admin import DeploymentState, admin_router
from gateway.edge.asgi import DataPlane
from gateway.edge.ops import ops_app
from gateway.interrupt import Reason
from gateway.middleware.admit import Admit
from gateway.middleware.audit import Audit
from gateway.middleware.authenticate import Authenticate
from gateway.middleware.limits import Limits
from gateway.middleware.measure import Measure
from gateway.middleware.models import Models
from gateway.middleware.receive import Receive
from gateway.pipeline import Pipeline
from gateway.reload import ConfigWatch
from gateway.routing.breaker import State
from gateway.routing.deployment import Deployment
from gateway.routing.health import Learned
from gateway.runtime import Snapshot
from gateway.settings import ConfigInvalid, Settings
from gateway.stage import Middleware
from gateway.tasks import Tasks
from gateway.telemetry.lag import LagProbe
from gateway.telemetry.log import Log
from gateway.telemetry.metrics import Metrics

IN_FLIGHT_BYTES = 256 << 20
IDLE_CHECK_S = 5.0
FLUSH_S = 10.0

_STATES: dict[State, int] = {"closed": 0, "half-open": 1, "open": 2}

Load = Callable[[], Settings]


class App:
    """One process. Made inside its event loop; ``asgi`` is what the server calls.

    ``load`` reads the configuration again; ``path`` is what is watched for changes (None: nothing).
    Raises ``OSError`` and ``WriterLocked`` when the ledger cannot be kept in ``storage.data_dir``.
    """

    def __init__(self, settings: Settings, load: Load, path: Path | None, log: Log) -> None:
        loop = asyncio.get_running_loop()
        self._settings = settings
        self._load = load
        self._log = log
        self._draining = False
        self._rejected: str | None = None
        self._secrets: set[bytes] = set()
        self.metrics = Metrics(CollectorRegistry(auto_describe=False))
        self._tasks = Tasks(self._failed)
        self._lag = LagProbe(loop)
        self.live = LiveExchanges()
        self.concurrency = Concurrency()
        self.uploads = BytesInFlight(max(IN_FLIGHT_BYTES, 4 * settings.server.max_body_bytes))
        self._transports = Transports()
        self.journal = self._open_journal(Path(settings.storage.data_dir))
        self._settler = Settler(self._failed)
        self._learned = Learned(self._breaker_changed)
        self._builder = Builder(self._transports, self._learned, self.metrics)
        self.snapshot = self._build(settings)
        self._watch = None if path is None else ConfigWatch(path, self.reload)
        self._reloading: asyncio.Task[None] | None = None
        self._reload_asked = False
        pipeline = Pipeline(self.chain(), dispatch, self._failed)
        admin = admin_router(self._admin_token, self._deployments)
        ops = ops_app(self._readiness, self._render_metrics, self._failed, admin)
        self.asgi = DataPlane(pipeline, lambda: self.snapshot, ops)

    def chain(self) -> tuple[Middleware, ...]:
        """The order of a request. Places of the stages to come: KillSwitch before Limits; Redact, Cache
        and Screen, in this order, behind it."""
        return (
            Audit(self._log, self.live),
            Measure(self.metrics),
            Authenticate(),
            Admit(self.concurrency),
            Models(),
            Receive(self.uploads),
            Limits(self.journal, self._settler, self._log, self.metrics),
        )

    def start(self) -> None:
        self._lag.start(self.concurrency.observe)
        self._tasks.spawn(self._close_idle(), "idle connections")
        if self._watch is not None:
            self._tasks.spawn(self._watch.run(), "configuration watch")

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
        await self._settler.close()
        await self._tasks.close()
        await self._transports.aclose()
        self._lag.stop()
        lost = await asyncio.to_thread(self.journal.close, FLUSH_S)
        self._log.event("stopped", rows_lost=len(lost))
        for row in lost:
            self._log.event("ledger_row_lost", level="error", row=row)
        if lost:
            raise RowsLost(f"{len(lost)} rows of the ledger could not be written; they are in the log")

    def reload(self) -> None:
        """Takes up the files as they are now, in the background; one change at a time."""
        self._reload_asked = True
        if self._reloading is None or self._reloading.done():
            self._reloading = self._tasks.spawn(self._reload_while_asked(), "reload")

    async def _reload_while_asked(self) -> None:
        while self._reload_asked:
            self._reload_asked = False
            if self._watch is not None:
                self._watch.mark()
            await self._reload()

    async def _reload(self) -> None:
        try:
            settings = await asyncio.to_thread(self._load)
            self._check_restart(settings)
        except ConfigInvalid as invalid:
            places = [f"{Path(one.file).name}:{one.line}: {one.key_path}" for one in invalid.faults]
            self._rejected = "; ".join(places)  # readiness is public: what is wrong stands in the log
            self._reject([str(fault) for fault in invalid.faults])
            return
        except RestartNeeded as needed:
            self._rejected = str(needed)
            self._reject([self._rejected])
            return
        try:
            self.snapshot = self._build(settings)
        except PriceTableError as error:
            self._rejected = str(error)
            self._reject([self._rejected])
            return
        self._settings = settings
        self._rejected = None
        self.metrics.config_reloads.child("ok").inc()
        self._log.event("config_reloaded", hash=settings.digest)

    def _reject(self, faults: list[str]) -> None:
        self.metrics.config_reloads.child("rejected").inc()
        for fault in faults:
            self._log.event("config_rejected", level="error", fault=fault)

    def _check_restart(self, settings: Settings) -> None:
        old, new = self._settings, settings
        changed = [
            f"server.{name}"
            for name in ("host", "port", "workers")
            if getattr(old.server, name) != getattr(new.server, name)
        ]
        if old.storage != new.storage:
            changed.append("storage")
        if changed:
            raise RestartNeeded(f"needs restart: {', '.join(changed)} cannot change while serving")

    def _build(self, settings: Settings) -> Snapshot:
        snapshot = self._builder.build(settings)
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

    def _breaker_changed(self, deployment: str, state: State) -> None:
        self.metrics.breaker_state.child(deployment).set(_STATES[state])
        self._log.event("breaker", level="warning", deployment=deployment, state=state)

    def _open_journal(self, data_dir: Path) -> Journal:
        data_dir.mkdir(parents=True, exist_ok=True)
        writer, lock = claim_writer(data_dir)
        return Journal(data_dir / "ledger", writer, lock=lock, report=self._ledger_report)

    def _ledger_report(self, event: str, **fields: Any) -> None:
        if event == "ledger_unwritable":
            self.metrics.storage_errors.child("ledger").inc()
        self._log.event(event, **fields)

    def _readiness(self) -> dict[str, Any]:
        reasons = []
        if self._draining:
            reasons.append("draining")
        if not self.journal.healthy:
            reasons.append(f"ledger: {self.journal.error}")
        state: dict[str, Any] = {
            "ready": not reasons,
            "reasons": reasons,
            "config": {"hash": self.snapshot.digest, "rejected": self._rejected},
        }
        return state

    def _admin_token(self) -> str | None:
        token = self._settings.server.admin_token
        return None if token is None else token.get_secret_value()

    def _deployments(self) -> list[DeploymentState]:
        now_s = time.monotonic()
        return [
            deployment_state(group.name, one, now_s)
            for group in self.snapshot.groups.values()
            for one in group.deployments
        ]

    def _render_metrics(self) -> bytes:
        self.metrics.event_loop_lag.set(self._lag.max_60s())
        self.metrics.storage_degraded.set(0 if self.journal.healthy else 1)
        return self.metrics.render()

    async def _close_idle(self) -> None:
        while True:
            await asyncio.sleep(IDLE_CHECK_S)
            self._transports.close_idle(time.monotonic())

    def _failed(self, event: str, error: BaseException, request_id: str) -> None:
        self._log.failure(event, error, request_id=request_id)


class RowsLost(Exception):
    """The ledger could not be written before the end."""


class RestartNeeded(Exception):
    """A valid configuration that cannot be taken up while serving."""


def secrets_of(settings: Settings) -> list[bytes]:
    """What must never be seen in a log."""
    providers = settings.providers.values()
    keys = [one.api_key for one in providers] + [one.proxy for one in providers]
    keys.append(settings.server.admin_token)
    return [key.get_secret_value().encode() for key in keys if key is not None]


def deployment_state(group: str, deployment: Deployment, now_s: float) -> DeploymentState:
    """What operators see of a deployment."""
    health = deployment.health
    usual_s = health.latency.quantile_s(0.5, least=1)
    return DeploymentState(
        id=deployment.id,
        model=group,
        provider=deployment.provider.name,
        upstream_model=deployment.model,
        weight=deployment.weight,
        callable=health.free_at_s(now_s) <= now_s,
        breaker=health.breaker.state(),
        open_for_s=round(max(health.breaker.free_at_s(now_s) - now_s, 0.0), 3),
        cooldown_s=round(health.cooldown.left_s(now_s), 3),
        in_flight=health.in_flight,
        latency_s=None if usual_s is None else round(usual_s, 6),
    )
