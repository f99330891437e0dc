"""From settings to policies, and to the routes that have them."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from gateway.building import Builder, Transports
from gateway.building_privacy import hash_key, names_of, policies_of
from gateway.exchange import Operation
from gateway.privacy.policy import Actions, Policy
from gateway.routing.health import Learned
from gateway.runtime import Snapshot
from gateway.settings import PrivacySettings, Settings, loads
from gateway.telemetry.metrics import Metrics

TEXT = """\
providers: {{sim: {{kind: simulated}}}}
models:
  large: {{deployments: [{{provider: sim, model: x}}]}}
  small: {{deployments: [{{provider: sim, model: x}}]}}
aliases: {{big: large}}
privacy: {{hash_key: "{key}"}}
tenants:
  acme:
    models: ["*"]
    redaction: {redaction}
    keys: [{{id: a, hash: "sha256:{a}"}}]
  other:
    models: ["*"]
    keys: [{{id: b, hash: "sha256:{b}"}}]
"""
KEY = "0123456789abcdef"


def settings(redaction: str, key: str = KEY) -> Settings:
    return loads(TEXT.format(redaction=redaction, key=key, a="a" * 64, b="b" * 64), {})


def only(redaction: str, key: str = KEY) -> Policy:
    ((where, policy),) = policies_of(settings(redaction, key)).items()
    assert where == ("acme", None)
    assert policy is not None
    return policy


def test_what_is_off_has_no_policy() -> None:
    assert policies_of(settings("{mode: off}")) == {}
    assert policies_of(settings("{mode: off, models: {large: {mode: off}}}")) == {}


@pytest.mark.parametrize(
    ("redaction", "actions"),
    [
        ("{mode: mask}", Actions("mask")),
        ("{mode: mask, restore: true}", Actions("restore")),
        ("{mode: hash}", Actions("hash")),
        ("{mode: block, actions: {US_SSN: flag}}", Actions("block", {"US_SSN": "flag"})),
        ("{mode: flag, actions: {US_SSN: restore}}", Actions("flag", {"US_SSN": "restore"})),
    ],
)
def test_the_mode_is_the_action_of_what_is_not_named(redaction: str, actions: Actions) -> None:
    assert only(redaction).actions == actions


@pytest.mark.parametrize(
    ("direction", "searched"),
    [("input", (True, False)), ("output", (False, True)), ("both", (True, True))],
)
def test_directions(direction: str, searched: tuple[bool, bool]) -> None:
    policy = only(f"{{mode: mask, direction: {direction}}}")
    assert (policy.inputs, policy.outputs) == searched


def test_the_rest_is_handed_on() -> None:
    policy = only(
        "{mode: mask, entities: [US_SSN], threshold: 0.7, allow: [a], allow_patterns: [b], deny: [c],"
        " uncovered: pass, on_failure: pass, budget_s: 0.5}"
    )
    assert (policy.uncovered, policy.on_failure, policy.budget_s) == ("pass", "pass", 0.5)
    spec = policy.detector
    assert (spec.engine, spec.entities, spec.threshold) == ("fast", ("US_SSN",), 0.7)
    assert (spec.allow, spec.allow_patterns, spec.deny) == (("a",), ("b",), ("c",))


def test_keys_of_hashes_are_the_fleets_and_each_tenants_own() -> None:
    acme, other = (hash_key(PrivacySettings(hash_key=SecretStr(KEY)), name) for name in ("acme", "other"))
    derived = [hash_key(PrivacySettings(), name) for name in ("acme", "other")]
    assert len({acme, other, *derived}) == 4
    assert only("{mode: mask}").hash_key == acme
    assert only("{mode: mask}", key="").hash_key == hash_key(PrivacySettings(), "acme")


def test_a_model_may_be_switched_on_or_off() -> None:
    policies = policies_of(
        settings("{mode: mask, restore: true, models: {large: {mode: block}, small: {mode: off}}}")
    )
    assert policies.keys() == {("acme", None), ("acme", "large"), ("acme", "small")}
    large = policies["acme", "large"]
    assert large is not None
    assert large.actions == Actions("block")
    assert policies["acme", "small"] is None
    policies = policies_of(settings("{mode: off, models: {large: {mode: block}}}"))
    assert policies.keys() == {("acme", "large")}


def test_a_group_is_as_strict_as_those_it_falls_back_to() -> None:
    text = TEXT.replace(
        "  small:", "  house: {{deployments: [{{provider: sim, model: x}}], fallbacks: [small]}}\n  small:"
    )
    text = text.replace("model: x}}]}}\n  house", "model: x}}], fallbacks: [house]}}\n  house")

    def at(redaction: str) -> dict[str, str | None]:
        policies = policies_of(loads(text.format(redaction=redaction, key=KEY, a="a" * 64, b="b" * 64), {}))
        held = {
            group: policies.get(("acme", group), policies.get(("acme", None)))
            for group in ("large", "house", "small")
        }
        return {group: policy.actions.default if policy else None for group, policy in held.items()}

    everywhere = {"large": "mask", "house": "mask", "small": "mask"}
    assert at("{mode: mask}") == everywhere
    assert at("{mode: off, models: {small: {mode: mask}}}") == everywhere
    assert at("{mode: flag, models: {small: {mode: mask}}}") == everywhere
    assert at("{mode: mask, models: {house: {mode: flag}}}") == everywhere
    assert at("{mode: mask, models: {small: {mode: flag}}}") == everywhere | {"small": "flag"}
    assert at("{mode: mask, models: {large: {mode: block}}}") == everywhere | {"large": "block"}


def test_tags_are_protected_as_strictly_as_anywhere() -> None:
    names = names_of(
        policies_of(settings("{mode: flag, models: {large: {mode: mask, direction: output}}}"))
    )
    assert names["acme"].actions.default == "mask"
    assert names.keys() == {"acme"}
    assert names_of(policies_of(settings("{mode: flag}"))) == {}


def snapshot(redaction: str) -> Snapshot:
    return Builder(Transports(), Learned(lambda name, state: None), Metrics(CollectorRegistry())).build(
        settings(redaction)
    )


def policy_of(built: Snapshot, key: str, model: str) -> Policy | None:
    owner = built.keys.find(bytes.fromhex(key * 64))
    assert owner is not None
    return built.route(owner, model, Operation.CHAT).policy


def test_routes_have_the_policy_of_their_tenant_and_model() -> None:
    built = snapshot("{mode: mask, models: {large: {mode: block}}}")
    small, large = policy_of(built, "a", "small"), policy_of(built, "a", "big")
    assert small is not None
    assert small is built.policy("acme", None) is built.policy("acme", "small")
    assert large is not None
    assert large is built.policy("acme", "large") is policy_of(built, "a", "large")
    assert (small.actions.default, large.actions.default) == ("mask", "block")
    assert policy_of(built, "b", "small") is None
    assert built.policy("other", None) is None


def test_a_model_that_is_switched_off_has_none() -> None:
    built = snapshot("{mode: mask, models: {large: {mode: off}}}")
    assert policy_of(built, "a", "large") is None
    assert policy_of(built, "a", "small") is not None
