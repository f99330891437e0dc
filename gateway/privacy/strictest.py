"""One policy for what several may be asked for: it protects whatever any of them does."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from gateway.privacy.policy import Action, Actions, Choice, DetectorSpec, Policy

_ORDER: tuple[Action, ...] = ("flag", "restore", "mask", "hash", "block")


def strictest(policies: Sequence[Policy]) -> Policy:
    """Of one tenant's policies, at least one: every entity and word of all, and for each the action that
    gives away least."""
    first = policies[0]
    if all(policy == first for policy in policies):
        return first
    minding = [policy for policy in policies if policy.protects] or policies
    return Policy(
        detector=_detector([policy.detector for policy in policies]),
        actions=_actions(policies),
        hash_key=first.hash_key,
        inputs=any(policy.inputs for policy in policies),
        outputs=any(policy.outputs for policy in policies),
        uncovered=_refused(policy.uncovered for policy in minding),
        on_failure=_refused(policy.on_failure for policy in minding),
        budget_s=max(policy.budget_s for policy in policies),
    )


def _actions(policies: Sequence[Policy]) -> Actions:
    named = {
        entity for policy in policies for entity in (*policy.detector.entities, *policy.actions.by_entity)
    }
    default = _least([policy.actions.default for policy in policies])
    by_entity = {entity: _least(list(_done(policies, entity))) for entity in sorted(named)}
    return Actions(default, {entity: action for entity, action in by_entity.items() if action != default})


def _done(policies: Sequence[Policy], entity: str) -> Iterable[Action]:
    """What those do about ``entity`` that look for it."""
    for policy in policies:
        if entity in policy.detector.entities or entity in policy.actions.by_entity:
            yield policy.actions.of(entity)


def _least(actions: Sequence[Action]) -> Action:
    return max(actions, key=_ORDER.index)


def _refused(choices: Iterable[Choice]) -> Choice:
    return "refuse" if "refuse" in choices else "pass"


def _detector(specs: Sequence[DetectorSpec]) -> DetectorSpec:
    wide = [spec for spec in specs if spec.engine == "presidio"]
    models = [spec.model_path for spec in wide if spec.model_path is not None]
    return DetectorSpec(
        engine="presidio" if wide else "fast",
        entities=tuple(sorted({entity for spec in specs for entity in spec.entities})),
        languages=_all(spec.languages for spec in wide or specs),
        threshold=min(spec.threshold for spec in specs),
        allow=_common([spec.allow for spec in specs]),
        allow_patterns=_common([spec.allow_patterns for spec in specs]),
        deny=_all(spec.deny for spec in specs),
        phone_regions=() if wide else _all(spec.phone_regions for spec in specs),
        recognisers=_recognisers(spec.recognisers for spec in specs),
        scan="all" if any(spec.scan == "all" for spec in wide) else "flagged",
        model_path=models[0] if models else None,
    )


def _all(lists: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(item for items in lists for item in items))


def _common(lists: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(item for item in lists[0] if all(item in items for items in lists))


def _recognisers(documents: Iterable[str]) -> str:
    own: list[object] = []
    for document in dict.fromkeys(documents):
        own += [one for one in json.loads(document or "[]") if one not in own]
    return json.dumps(own, ensure_ascii=False) if own else ""
