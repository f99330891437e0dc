"""Whatever the files hold, the answer is settings or faults, never another exception."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.settings import ConfigInvalid, Settings, load, loads
from gateway.settings.root import Settings as Root
from tests.unit.test_settings_faults import VALID

TOP = list(Root.model_fields)
WORDS = (
    "kind base_url api_key deployments provider model keys hash id models limits price mode workers "
    "admin_token simulate cache retry attempts fallbacks expires timeouts idle_s weight redaction "
    "privacy entities recognisers patterns regex actions engine"
).split()
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=12),
    st.dates(),
    st.sampled_from(
        [
            "openai",
            "simulated",
            "${A}",
            "${A:-1}",
            "$${",
            "http://a",
            "memory://",
            "*",
            "~",
            "off",
            "mask",
            "presidio",
        ]
    ),
)
KEYS = st.one_of(st.sampled_from(WORDS), st.text(max_size=6))
VALUES = st.recursive(
    SCALARS, lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(KEYS, inner, max_size=5))
)
TREES = st.dictionaries(
    st.one_of(st.sampled_from(TOP), st.text(max_size=4)),
    st.one_of(VALUES, st.dictionaries(KEYS, st.dictionaries(KEYS, VALUES, max_size=5), max_size=3)),
    max_size=5,
)
YAML_PIECES = st.lists(
    st.one_of(st.sampled_from([*"{}[]:,&*!|>-?#%@`\"'\n\t ", "<<: ", "&a ", "*a", "\n  ", *TOP, *WORDS])),
    max_size=40,
).map("".join)


def ends_well(text: str) -> None:
    try:
        assert isinstance(loads(text, {"A": "x"}), Settings)
    except ConfigInvalid as invalid:
        assert invalid.faults
        for fault in invalid.faults:
            assert "\n" not in str(fault)
            assert fault.line >= 1


@given(TREES)
@settings(max_examples=150, deadline=None)
def test_any_tree(tree: dict[str, Any]) -> None:
    ends_well(yaml.safe_dump(tree))


@given(YAML_PIECES)
@settings(max_examples=300, deadline=None)
def test_any_text_of_yaml_pieces(text: str) -> None:
    ends_well(text)


@given(st.integers(0, len(VALID)), st.integers(0, 30), YAML_PIECES)
@settings(max_examples=300, deadline=None)
def test_any_damage(at: int, gone: int, put: str) -> None:
    ends_well(VALID[:at] + put + VALID[at + gone :])


@given(st.binary(max_size=200))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "c.yaml"
    file.write_bytes(content)
    try:
        load(file, {})
    except ConfigInvalid as invalid:
        assert invalid.faults
