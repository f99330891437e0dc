"""Kill switches: what each scope stops, and how a name of an operator becomes the one that is matched."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from gateway.control.state import Switch
from gateway.errors import Forbidden, InvalidRequest

if TYPE_CHECKING:
    from gateway.exchange import Exchange
    from gateway.runtime import Snapshot

SCOPES = ("all", "tenant", "key", "feature", "model", "provider", "deployment")
MAX_NAME = 200


class KillSwitches:
    """Those that are on, from the API and from files, ready to be matched. ``text``: by deployment id, why
    it may not be called."""

    __slots__ = ("_by", "text")

    def __init__(self, switches: Iterable[Switch], snapshot: Snapshot | None) -> None:
        self._by = {(one.scope, one.name): one for one in switches}
        self.text: dict[str, str] = {} if snapshot is None else dict(self._stopped(snapshot))

    def __bool__(self) -> bool:
        return bool(self._by)

    def __iter__(self) -> Iterator[Switch]:
        return iter(self._by.values())

    def check(self, exchange: Exchange) -> None:
        """Raises ``Forbidden`` for what must not begin."""
        for place in _places(exchange):
            switch = self._by.get(place)
            if switch is not None and not switch.over(time.time()):
                raise Forbidden(message(switch), code="kill_switch")

    def _stopped(self, snapshot: Snapshot) -> Iterator[tuple[str, str]]:
        """Also the deployments of a stopped model: nobody falls back to them."""
        for group in snapshot.groups.values():
            for one in group.deployments:
                places = (("provider", one.provider.name), ("deployment", one.id), ("model", group.name))
                found = next((switch for place in places if (switch := self._by.get(place))), None)
                if found is not None:
                    yield one.id, message(found)


def message(switch: Switch) -> str:
    what = switch.scope if switch.scope == "all" else f"{switch.scope} {switch.name}"
    return f"Stopped by an operator's kill switch ({what}): {switch.reason}"


def stops_running(switch: Switch, exchange: Exchange) -> bool:
    """Whether what runs already is meant, too."""
    place = (switch.scope, switch.name)
    if place in _places(exchange):
        return True
    shown = None if exchange.call is None else exchange.call.shown
    if shown is None:
        return False
    answering = shown.deployment
    return place in (
        ("provider", answering.provider.name),
        ("deployment", answering.id),
        ("model", shown.group.name),
    )


def _places(exchange: Exchange) -> list[tuple[str, str]]:
    places = [("all", "")]
    key = exchange.key
    if key is not None:
        places += [("tenant", key.tenant.name), ("key", f"{key.tenant.name}/{key.id}")]
    if exchange.feature:
        places.append(("feature", exchange.feature))
    if exchange.route is not None:
        places.append(("model", exchange.route.group.name))
    return places


def resolved(
    scope: str, name: str, snapshot: Snapshot, made: Iterable[tuple[str, str]]
) -> tuple[str, bool]:
    """The name that is matched, and whether there is such a thing; ``made``: tenants and ids of the keys
    that the API made. An alias becomes its group, and a key's id alone becomes ``tenant/id``.

    Raises ``InvalidRequest`` for a scope that there is not, and for a name that means several keys.
    """
    _check_name(scope, name)
    if scope == "all":
        return "", True
    if scope == "tenant":
        return name, name in snapshot.tenants
    if scope == "key":
        return _key_name(name, [*snapshot.keys.names(), *made])
    if scope == "model":
        group = snapshot.aliases.get(name, name)
        return group, group in snapshot.groups
    if scope == "feature":
        return name, name in snapshot.features
    deployments = [one for group in snapshot.groups.values() for one in group.deployments]
    names = {one.provider.name if scope == "provider" else one.id for one in deployments}
    return name, name in names


def _check_name(scope: str, name: str) -> None:
    if scope not in SCOPES:
        raise InvalidRequest(f"There is no scope {scope[:50]!r}; use {', '.join(SCOPES)}.", param="scope")
    if scope == "all" and name:
        raise InvalidRequest("The scope 'all' takes no name.", param="name")
    if scope != "all" and not (0 < len(name) <= MAX_NAME and name.isprintable()):
        raise InvalidRequest(
            f"The scope {scope!r} needs a name of 1 to {MAX_NAME} characters.", param="name"
        )


def _key_name(name: str, keys: Iterable[tuple[str, str]]) -> tuple[str, bool]:
    keys = set(keys)
    if any(name == f"{tenant}/{key}" for tenant, key in keys):
        return name, True
    owners = sorted(tenant for tenant, key in keys if key == name)
    if len(owners) > 1:
        which = " or ".join(f"{owner}/{name}" for owner in owners[:3])
        raise InvalidRequest(f"Several tenants have a key {name!r}; name it {which}.", param="name")
    return (f"{owners[0]}/{name}", True) if owners else (name, False)
