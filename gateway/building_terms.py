"""From the settings of a tenant to its terms."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.accounting.money import to_nanousd
from gateway.admission.terms import NO_LIMITS, NOTHING, Allowance, Budget, Limits, Terms
from gateway.settings import BudgetSettings, LimitsSettings, TenantSettings


def terms_of(name: str, settings: TenantSettings, aliases: Mapping[str, str]) -> Terms:
    """``aliases``: limits of an alias are those of its group."""
    keys = {key.id: _allowance(key.limits, key.budget) for key in settings.keys}
    models = {aliases.get(model, model): one for model, one in settings.model_limits.items()}
    features = {*settings.feature_limits, *settings.feature_budgets}
    each_user = _allowance(settings.user_limits, settings.user_budget)
    return Terms(
        tenant=name,
        own=_allowance(settings.limits, settings.budget),
        keys={key: one for key, one in keys.items() if one is not NOTHING},
        models={model: _allowance(one, None) for model, one in models.items()},
        features={
            feature: _allowance(settings.feature_limits.get(feature), settings.feature_budgets.get(feature))
            for feature in features
        },
        each_user=None if each_user is NOTHING else each_user,
        limits_on_loss=settings.on_storage_loss.limits,
        budget_on_loss=settings.on_storage_loss.budget,
        drain=settings.on_disconnect == "drain",
    )


def _allowance(limits: LimitsSettings | None, budget: BudgetSettings | None) -> Allowance:
    if limits is None and budget is None:
        return NOTHING
    return Allowance(
        NO_LIMITS if limits is None else Limits(**limits.model_dump()),
        None
        if budget is None
        else Budget(to_nanousd(budget.usd), budget.period, tuple(sorted(budget.alert_at))),
    )
