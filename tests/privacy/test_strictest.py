"""One policy for several models: it protects whatever any of them does."""

from __future__ import annotations

import json
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from gateway.privacy.policy import Action, Actions, DetectorSpec, Policy
from gateway.privacy.strictest import strictest

ORDER: tuple[Action, ...] = ("flag", "restore", "mask", "hash", "block")
ENTITIES = ("EMAIL_ADDRESS", "US_SSN", "CREDIT_CARD", "IP_ADDRESS")
actions = st.sampled_from(ORDER)


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    entities = tuple(sorted(draw(st.sets(st.sampled_from(ENTITIES), min_size=1))))
    by_entity = draw(st.dictionaries(st.sampled_from(entities), actions))
    words = st.lists(st.sampled_from("abc"), unique=True).map(tuple)
    spec = DetectorSpec(
        "fast", entities, allow=draw(words), deny=draw(words), threshold=draw(st.floats(0, 1))
    )
    return Policy(
        spec,
        Actions(draw(actions), by_entity),
        b"k" * 16,
        inputs=draw(st.booleans()),
        outputs=draw(st.booleans()),
        uncovered=draw(st.sampled_from(("refuse", "pass"))),
        on_failure=draw(st.sampled_from(("refuse", "pass"))),
    )


@given(st.lists(policies(), min_size=1, max_size=4))
def test_it_is_at_least_as_strict_as_each(several: list[Policy]) -> None:
    one = strictest(several)
    for policy in several:
        assert set(policy.detector.entities) <= set(one.detector.entities)
        assert set(policy.detector.deny) <= set(one.detector.deny)
        assert set(one.detector.allow) <= set(policy.detector.allow)
        assert one.detector.threshold <= policy.detector.threshold
        assert one.inputs >= policy.inputs
        assert one.outputs >= policy.outputs
        for entity in policy.detector.entities:
            assert ORDER.index(one.actions.of(entity)) >= ORDER.index(policy.actions.of(entity))
        if policy.protects and policy.uncovered == "refuse":
            assert one.uncovered == "refuse"
        if policy.protects and policy.on_failure == "refuse":
            assert one.on_failure == "refuse"
    assert strictest([one]) is one
    assert strictest([one, one]) is one


def test_an_action_is_that_of_those_who_look_for_the_entity() -> None:
    mails = Policy(DetectorSpec("fast", ("EMAIL_ADDRESS",)), Actions("restore"), b"k" * 16)
    cards = Policy(DetectorSpec("fast", ("CREDIT_CARD",)), Actions("block"), b"k" * 16)
    one = strictest([mails, cards])
    assert one.actions.of("EMAIL_ADDRESS") == "restore"
    assert one.actions.of("CREDIT_CARD") == "block"


def test_the_wide_catalogue_and_all_own_recognisers_are_asked() -> None:
    own = [json.dumps([{"name": name, "supported_entity": name.upper()}]) for name in "ab"]
    fast = DetectorSpec("fast", ("EMAIL_ADDRESS",), phone_regions=("US",), recognisers=own[0])
    wide = DetectorSpec("presidio", ("PERSON",), languages=("de",), recognisers=own[1], model_path="/m")
    base = Policy(fast, Actions("mask"), b"k" * 16)
    spec = strictest([base, replace(base, detector=wide)]).detector
    assert (spec.engine, spec.entities, spec.languages) == (
        "presidio",
        ("EMAIL_ADDRESS", "PERSON"),
        ("de",),
    )
    assert (spec.model_path, spec.phone_regions) == ("/m", ())
    assert [one["name"] for one in json.loads(spec.recognisers)] == ["a", "b"]
