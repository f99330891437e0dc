"""From the settings of tenants to what happens to personal data."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator

from gateway.privacy.policy import Action, Actions, Policy
from gateway.privacy.strictest import strictest
from gateway.settings import PrivacySettings, RedactionFields, RedactionSettings, Settings

Policies = dict[tuple[str, str | None], Policy | None]


def policies_of(settings: Settings) -> Policies:
    """By tenant and model group. With None for the group: at all models that have no entry of their own.
    No entry: nothing is looked for. None: nothing is at this model, though it is at others.

    A group that falls back to others has the strictest policy of them all: what is sent to one may be sent
    to each."""
    policies: Policies = {}
    for tenant, one in settings.tenants.items():
        own = dict(_of_tenant(one.redaction, settings.privacy, hash_key(settings.privacy, tenant)))
        policies |= {(tenant, group): policy for group, policy in own.items()}
        if len(own) > 1 or None not in own:
            policies |= {(tenant, group): policy for group, policy in _by_fallbacks(own, settings)}
    return policies


def names_of(policies: Policies) -> dict[str, Policy]:
    """By tenant, what happens to personal data in cost tags and request ids, at all models alike."""
    held: dict[str, list[Policy]] = {}
    for (tenant, _), policy in policies.items():
        if policy is not None and policy.protects:
            held.setdefault(tenant, []).append(policy)
    return {tenant: strictest(found) for tenant, found in held.items()}


def _by_fallbacks(own: dict[str | None, Policy | None], settings: Settings) -> Iterator[tuple[str, Policy]]:
    for group in settings.models:
        reached = [own.get(one, own.get(None)) for one in _reachable(group, settings)]
        held = [policy for policy in reached if policy is not None]
        if len(reached) > 1 and held:
            yield group, strictest(held)


def _reachable(group: str, settings: Settings) -> list[str]:
    """``group`` and all that a request to it may fall back to."""
    found = [group]
    for name in found:
        found += [other for other in settings.models[name].fallbacks if other not in found]
    return found


def hash_key(privacy: PrivacySettings, tenant: str) -> bytes:
    """The key of a tenant's hashes: those of two tenants cannot be joined. Without one of the fleet's,
    whoever knows the tenant's name can try values out."""
    fleet = b"" if privacy.hash_key is None else privacy.hash_key.get_secret_value().encode()
    return hmac.new(fleet, b"llm-gateway redaction\0" + tenant.encode(), hashlib.sha256).digest()


def _of_tenant(
    redaction: RedactionSettings, privacy: PrivacySettings, key: bytes
) -> Iterator[tuple[str | None, Policy | None]]:
    everywhere = redaction.mode != "off"
    if everywhere:
        yield None, _policy(redaction, privacy, key)
    for group in redaction.models:
        here = redaction.at(group)
        if here.mode != "off":
            yield group, _policy(here, privacy, key)
        elif everywhere:
            yield group, None


def _policy(redaction: RedactionFields, privacy: PrivacySettings, key: bytes) -> Policy:
    return Policy(
        detector=redaction.detector(privacy),
        actions=Actions(_default(redaction), dict(redaction.actions)),
        hash_key=key,
        inputs=redaction.direction != "output",
        outputs=redaction.direction != "input",
        uncovered=redaction.uncovered,
        on_failure=redaction.on_failure,
        budget_s=redaction.budget_s,
    )


def _default(redaction: RedactionFields) -> Action:
    assert redaction.mode != "off"
    return "restore" if redaction.mode == "mask" and redaction.restore else redaction.mode
