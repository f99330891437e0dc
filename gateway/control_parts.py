"""Kill switches, keys and tokens, wired: what the configuration says of them, and what operators say."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gateway.control.control import Control
from gateway.control.live import LiveExchanges
from gateway.control.registry import Registry
from gateway.runtime import Snapshot
from gateway.settings import JwtSettings, Settings
from gateway.storage.interface import Store
from gateway.tasks import Tasks
from gateway.telemetry.log import Log
from gateway.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from gateway.control.jwt import Issuer, JwtVerifier


class ControlParts:
    """``control``: what requests and operators ask; ``registry``: who presents a key."""

    def __init__(
        self,
        store: Store,
        data_dir: Path,
        live: LiveExchanges,
        tasks: Tasks,
        metrics: Metrics,
        log: Log,
    ) -> None:
        self._tasks = tasks
        self._log = log
        self._tokens: JwtVerifier | None = None
        self._started = False
        self.control = Control(store, data_dir, live, metrics, log)
        self.registry = Registry(self.control.watch)
        self.control.renewed = self.registry.forget

    def adopt(self, settings: Settings, snapshot: Snapshot) -> None:
        """Before ``snapshot`` is served."""
        if settings.auth.jwt or self._tokens is not None:
            self._verifier().configure([_issuer(one) for one in settings.auth.jwt])
        self.control.adopt(
            snapshot,
            [(one.scope, one.name or "", one.reason, one.cut_streams) for one in settings.kill_switches],
        )

    def start(self) -> None:
        self._started = True
        if self._tokens is not None:
            self._tokens.start()
        self._tasks.keep(self.control.run, "control state")

    def _verifier(self) -> JwtVerifier:
        if self._tokens is None:
            from gateway.control.jwt import JwtVerifier  # only who uses tokens pays for its import

            self._tokens = self.registry.tokens = JwtVerifier(self._tasks.spawn, self._log.event)
            if self._started:
                self._tokens.start()
        return self._tokens


def _issuer(settings: JwtSettings) -> Issuer:
    from gateway.control.jwt import Issuer

    source = settings.jwks_file or settings.jwks_url
    assert source is not None
    return Issuer(
        issuer=settings.issuer,
        audience=settings.audience,
        source=source,
        tenant_claim=settings.tenant_claim,
        user_claim=settings.user_claim,
        feature_claim=settings.feature_claim,
        algorithms=settings.algorithms,
        leeway_s=settings.leeway_s,
        models=None if settings.models is None or "*" in settings.models else frozenset(settings.models),
    )
