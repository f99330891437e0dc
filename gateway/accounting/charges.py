"""What budgets ask: how much was charged to a tenant, a key, a feature or a user in a period."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gateway.accounting.sums import HOUR_S, OTHER, Group, day_of, hour_of_day

MOST_PAYERS = 200_000
_HOURS_FOR_S = 8 * 86400
_DAYS_FOR_S = 62 * 86400

Payer = tuple[str, str | None, str | None, str | None]
"""Tenant, key, feature, user; None: any."""
Asked = tuple[bool, bool, bool]
_ALL: Asked = (True, True, True)


class Charges:
    """Charged nano-dollars of one writer, by payer and time: hours of the last 8 days, days of the last
    62, months before. So every calendar hour, day, week and month that still runs is exact, and every
    month that was."""

    def __init__(self) -> None:
        self._views: dict[Asked, dict[Payer, dict[int, int]]] = {_ALL: {}}

    def add(self, group: Group, nanousd: int) -> None:
        if nanousd:
            user = group.user
            payers = self._views[_ALL]
            if len(payers) >= MOST_PAYERS and (group.tenant, group.key, group.feature, user) not in payers:
                user = OTHER
            payer = (group.tenant, group.key, group.feature, user)
            for asked, view in self._views.items():
                _add(view, _narrowed(payer, asked), group.hour, nanousd)

    def charged(
        self, tenant: str, key: str | None, feature: str | None, user: str | None, start_s: int, end_s: int
    ) -> int:
        """Nano-dollars from ``start_s`` up to ``end_s`` (0: without end)."""
        asked = (key is not None, feature is not None, user is not None)
        view = self._views.get(asked)
        if view is None:
            view = self._views[asked] = self._view(asked)
        spent = view.get((tenant, key, feature, user), {})
        return sum(nano for hour, nano in spent.items() if start_s <= hour and (not end_s or hour < end_s))

    def _view(self, asked: Asked) -> dict[Payer, dict[int, int]]:
        view: dict[Payer, dict[int, int]] = {}
        for payer, spent in self._views[_ALL].items():
            for hour, nanousd in spent.items():
                _add(view, _narrowed(payer, asked), hour, nanousd)
        return view

    def coarsen(self, now_s: int) -> None:
        """Puts what is long ago together: to be called once a day."""
        coarse: dict[Payer, dict[int, int]] = {}
        for payer, spent in self._views[_ALL].items():
            for hour, nanousd in spent.items():
                _add(coarse, payer, _span(hour, now_s), nanousd)
        self._views = {_ALL: coarse}

    def encode(self) -> Iterable[list[Any]]:
        return ([payer, list(spent.items())] for payer, spent in self._views[_ALL].items())

    def decode(self, entries: Iterable[Any]) -> None:
        """Takes over what ``encode`` gave. Raises ``TypeError`` or ``ValueError``."""
        for (tenant, key, feature, user), spent in entries:
            self._views[_ALL][(tenant, key, feature, user)] = dict(spent)


def _narrowed(payer: Any, asked: Asked) -> Payer:
    if asked == _ALL:
        return payer  # type: ignore[no-any-return]
    tenant, *others = payer
    key, feature, user = (one if wanted else None for one, wanted in zip(others, asked, strict=True))
    return tenant, key, feature, user


def _add(view: dict[Payer, dict[int, int]], payer: Payer, hour: int, nanousd: int) -> None:
    spent = view.get(payer)
    if spent is None:
        spent = view[payer] = {}
    spent[hour] = spent.get(hour, 0) + nanousd


def _span(hour: int, now_s: int) -> int:
    age_s = now_s - hour
    if age_s <= _HOURS_FOR_S:
        return hour - hour % HOUR_S
    if age_s <= _DAYS_FOR_S:
        return hour - hour % 86400
    return hour_of_day(f"{day_of(hour)[:7]}-01")
