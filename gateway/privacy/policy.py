"""What a tenant wants done about personal data: where it is looked for, how, and what happens to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Action = Literal["mask", "restore", "hash", "block", "flag"]
"""``mask``: a placeholder instead of the value. ``restore``: that, and the value again on the way back.
``hash``: a keyed hash, equal over requests. ``block``: the request is refused. ``flag``: counted only."""

Engine = Literal["fast", "presidio"]
Choice = Literal["refuse", "pass"]


@dataclass(frozen=True, slots=True)
class Actions:
    """``default`` for every entity that ``by_entity`` does not name."""

    default: Action
    by_entity: Mapping[str, Action] = field(default_factory=dict)
    _possible: frozenset[Action] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_possible", frozenset((self.default, *self.by_entity.values())))

    def of(self, entity: str) -> Action:
        return self.by_entity.get(entity, self.default)

    def any(self, *actions: Action) -> bool:
        """Whether one of ``actions`` may happen."""
        return not self._possible.isdisjoint(actions)


@dataclass(frozen=True, slots=True)
class DetectorSpec:
    """All that a detector is made of; equal ones are one detector.

    ``threshold``: the least score, 0 to 1. ``recognisers``: JSON text of a list in Presidio's format, or
    empty. ``scan``: whether Presidio sees everything or only what the fast gate flags. ``model_path``: of
    the model that finds names.
    """

    engine: Engine
    entities: tuple[str, ...]
    languages: tuple[str, ...] = ("en",)
    threshold: float = 0.4
    allow: tuple[str, ...] = ()
    allow_patterns: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    phone_regions: tuple[str, ...] = ()
    recognisers: str = ""
    scan: Literal["flagged", "all"] = "flagged"
    model_path: str | None = None
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        fields = (self.engine, self.entities, self.languages, self.threshold, self.recognisers, self.scan)
        object.__setattr__(self, "_hash", hash(fields))

    def __hash__(self) -> int:
        return self._hash  # each request looks its detector up


@dataclass(frozen=True, slots=True)
class Policy:
    """Of one tenant at one model. ``inputs``, ``outputs``: whether requests and answers are searched.

    ``uncovered``: what happens to a request that holds what cannot be searched (images, audio, files).
    ``on_failure``: what happens when the detector fails. ``budget_s``: the most seconds that a search may
    take. ``hash_key``: 16 bytes or more. ``replaces``: whether a value may be replaced; ``protects``:
    whether anything may happen but counting.
    """

    detector: DetectorSpec
    actions: Actions
    hash_key: bytes
    inputs: bool = True
    outputs: bool = True
    uncovered: Choice = "refuse"
    on_failure: Choice = "refuse"
    budget_s: float = 2.0
    replaces: bool = field(init=False)
    protects: bool = field(init=False)

    def __post_init__(self) -> None:
        replaces = self.actions.any("mask", "restore", "hash")
        object.__setattr__(self, "replaces", replaces)
        object.__setattr__(self, "protects", replaces or self.actions.any("block"))
