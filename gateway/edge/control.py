"""Kill switches and virtual keys in the operators' API."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Query, Request

from gateway.control.control import Control
from gateway.control.issuing import Issuing, Listed, Wanted
from gateway.control.keys import expiry_s, read_expiry
from gateway.control.state import MadeKey, Switch
from gateway.edge.control_bodies import (
    KeyOrder,
    Keys,
    KeyState,
    NewKey,
    RevokedKey,
    Switches,
    SwitchOff,
    SwitchOn,
    SwitchOrder,
    SwitchState,
)
from gateway.edge.operator import Token, operators_only
from gateway.telemetry.log import Log

if TYPE_CHECKING:
    from gateway.runtime import Snapshot

_Owner = Annotated[str | None, Query(description="The tenant, where the path could mean two keys.")]
_LAST_S = 253402300799
"""The end of the year 9999."""


def control_router(control: Control, snapshot: Callable[[], Snapshot], log: Log, token: Token) -> APIRouter:
    """``token``: what opens it now."""
    router = APIRouter(route_class=operators_only(token))
    _add_switches(router, control, log)
    _add_keys(router, Issuing(control), snapshot, log)
    return router


def _add_switches(router: APIRouter, control: Control, log: Log) -> None:
    @router.get("/kill-switches", summary="Kill switches that are on")
    async def list_switches() -> Switches:
        await control.catch_up_quietly()
        return Switches(data=[SwitchState(**_switch(*one)) for one in control.switches()])

    async def turn_on(request: Request, scope: str, name: str, order: SwitchOrder) -> SwitchOn:
        switch, known, shared = await control.turn_on(
            scope, name, order.reason, order.expires_s, order.cut_streams
        )
        _noted(log, request, "put_kill_switch", scope=scope, name=switch.name, reason=order.reason)
        return SwitchOn(**_switch(switch, "api", known), shared=shared)

    async def turn_off(request: Request, scope: str, name: str) -> SwitchOff:
        name, shared = await control.turn_off(scope, name)
        _noted(log, request, "delete_kill_switch", scope=scope, name=name)
        return SwitchOff(scope=scope, name=name, shared=shared)

    @router.put("/kill-switches/{scope}", summary="Stop everything (scope all)")
    async def put_all(request: Request, scope: str, order: SwitchOrder) -> SwitchOn:
        return await turn_on(request, scope, "", order)

    @router.put("/kill-switches/{scope}/{name:path}", summary="Stop one thing")
    async def put_one(request: Request, scope: str, name: str, order: SwitchOrder) -> SwitchOn:
        return await turn_on(request, scope, name, order)

    @router.delete("/kill-switches/{scope}", summary="Let everything go on (scope all)")
    async def delete_all(request: Request, scope: str) -> SwitchOff:
        return await turn_off(request, scope, "")

    @router.delete("/kill-switches/{scope}/{name:path}", summary="Let one thing go on")
    async def delete_one(request: Request, scope: str, name: str) -> SwitchOff:
        return await turn_off(request, scope, name)


def _add_keys(router: APIRouter, issuing: Issuing, snapshot: Callable[[], Snapshot], log: Log) -> None:
    async def shown(place: str, owner: str | None) -> KeyState:
        return KeyState(**_key(issuing.one(*await issuing.owned(place, owner, snapshot()), snapshot())))

    @router.get("/tenants/{tenant:path}/keys", summary="Keys of a tenant, without their secrets")
    async def list_keys(tenant: str, owner: _Owner = None) -> Keys | KeyState:
        meant = tenant in snapshot().tenants and owner in (None, tenant)
        if not meant and "/keys/" in f"{tenant}/keys":  # a key whose id is keys, or ends so
            return await shown(f"{tenant}/keys", owner)
        return Keys(data=[KeyState(**_key(one)) for one in issuing.listed(tenant, snapshot())])

    @router.post("/tenants/{tenant:path}/keys", status_code=201, summary="Make or rotate a key")
    async def make_key(request: Request, tenant: str, order: KeyOrder) -> NewKey:
        wanted = Wanted(
            id=order.id,
            expires_s=None if order.expires is None else expiry_s(read_expiry(order.expires)),
            models=order.models,
            tags=order.tags,
            strict=order.strict,
            rotate=order.rotate,
            overlap_s=order.overlap_s,
        )
        secret, made = await issuing.make(tenant, wanted, snapshot())
        _noted(log, request, "post_key", tenant=tenant, key=made.id, replaces=order.rotate)
        return _new_key(secret, made, order.rotate)

    @router.get("/tenants/{tenant:path}/keys/{id:path}", summary="One key, without its secret")
    async def get_key(tenant: str, id: str, owner: _Owner = None) -> KeyState:
        return await shown(f"{tenant}/keys/{id}", owner)

    @router.delete("/tenants/{tenant:path}/keys/{id:path}", summary="Revoke a key for good")
    async def revoke_key(
        request: Request, tenant: str, id: str, cut_streams: bool = False, owner: _Owner = None
    ) -> RevokedKey:
        tenant, name = await issuing.owned(f"{tenant}/keys/{id}", owner, snapshot())
        key, shared = await issuing.revoke(tenant, name, cut_streams, snapshot())
        _noted(log, request, "delete_key", tenant=tenant, key=name, cut_streams=cut_streams)
        return RevokedKey(**_key(key), shared=shared)


def _switch(switch: Switch, source: str, known: bool) -> dict[str, Any]:
    return {
        "scope": switch.scope,
        "name": switch.name,
        "reason": switch.reason,
        "cut_streams": switch.cut_streams,
        "since": _shown(switch.changed_s),
        "expires": _shown(switch.expires_s),
        "source": source,
        "known": known,
    }


def _key(key: Listed) -> dict[str, Any]:
    return {
        "id": key.id,
        "tenant": key.tenant,
        "source": key.source,
        "created": _shown(key.created_s),
        "expires": _shown(key.expires_s),
        "revoked": _shown(key.revoked_s),
        "models": None if key.models is None else list(key.models),
        "tags": dict(key.tags),
        "strict": key.strict,
        "hash_ends": key.digest.hex()[-4:],
    }


def _new_key(secret: str, made: MadeKey, replaces: str | None) -> NewKey:
    return NewKey(
        id=made.id,
        tenant=made.tenant,
        secret=secret,
        hash=f"sha256:{made.digest}",
        created=_shown(made.created_s),
        expires=_shown(made.expires_s),
        models=None if made.models is None else list(made.models),
        tags=made.tags,
        strict=made.strict,
        replaces=replaces,
    )


def _shown(time_s: float | None) -> str | None:
    """RFC 3339 in UTC."""
    if time_s is None:
        return None
    shown = datetime.fromtimestamp(min(time_s, _LAST_S), timezone.utc).isoformat(timespec="milliseconds")
    return re.sub(r"\+00:00$", "Z", shown)


def _noted(log: Log, request: Request, action: str, **what: Any) -> None:
    """Who asked for what; of the token nothing."""
    client = request.client.host if request.client is not None else None
    log.event("admin", level="warning", action=action, client=client, **what)
