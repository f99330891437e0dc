"""Rules of ``redaction`` and ``privacy`` that one field cannot know.

What looks for personal data is imported only where a tenant has it looked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from gateway.privacy.entities import DENIED, NAME_ENTITIES, PRESIDIO_ENTITIES
from gateway.settings.faults import Faults, KeyPath, nearest, printable
from gateway.settings.redaction import PrivacySettings, RedactionFields, RedactionSettings
from gateway.settings.rules_recognisers import (
    check_languages,
    check_patterns,
    check_recognisers,
    check_regions,
)
from gateway.settings.section import Section
from gateway.settings.tree import Tree

_A_KEY = "hash needs privacy.hash_key; make one with: openssl rand -hex 32"
_ONLY_PRESIDIO = ("languages", "scan")
_MODEL_PATH: KeyPath = ("privacy", "model_path")
_NOT_PUT_BACK = "needs direction: both or input; nothing else is put back"

_S = TypeVar("_S", bound=Section)


def check_redaction(tree: Tree, faults: Faults, *, complete: bool, build: bool) -> None:
    """``complete``: all files could be read. ``build``: also builds what finds personal data, and loads the
    model that finds names: that takes seconds."""
    privacy = _valid(PrivacySettings, tree.get("privacy"))
    if privacy is not None and privacy.model_path is not None:
        wrong = _unusable(privacy.model_path)
        if wrong:
            faults.add(_MODEL_PATH, wrong)
    for tenant in tree.section("tenants"):
        here: KeyPath = ("tenants", tenant, "redaction")
        if complete or "models" in tree.data:
            _groups(tree, faults, here)
        redaction = _valid(RedactionSettings, tree.get(*here))
        if redaction is not None:
            for group in (None, *redaction.models):
                _Level(tree, faults, here, redaction, group, privacy).check(build)


def _valid(kind: type[_S], data: object) -> _S | None:
    """None: its fields have faults of their own, which are told already."""
    try:
        return kind.model_validate(data)
    except ValidationError:
        return None


def _unusable(path: Path) -> str | None:
    if not path.exists():
        return "does not exist: put a spaCy model's folder there"
    if path.is_dir() and not (path / "config.cfg").is_file():
        return "is no spaCy model: it has no config.cfg; name the folder that holds it"
    return None


def _groups(tree: Tree, faults: Faults, here: KeyPath) -> None:
    groups, aliases = tree.section("models"), tree.section("aliases")
    for name in tree.section(*here, "models"):
        if name in groups:
            continue
        wanted = aliases.get(name)
        if isinstance(wanted, str) and wanted in groups:
            faults.add((*here, "models", name), f"is an alias; name its model group {printable(wanted)!r}")
        else:
            faults.add(
                (*here, "models", name),
                "is not a model group of this configuration",
                nearest(name, groups),
            )


@dataclass(slots=True)
class _Level:
    """What a tenant has, or what it has at one model group."""

    tree: Tree
    faults: Faults
    here: KeyPath
    redaction: RedactionSettings
    group: str | None
    privacy: PrivacySettings | None

    def check(self, build: bool) -> None:
        before, here = len(self.faults.found), self.effective
        if here.mode == "off":
            return
        self._entities(here)
        self._actions(here)
        self._keys(here)
        self._idle(here)
        self._languages(here)
        self._patterns(here)
        if build and before == len(self.faults.found) and self.privacy is not None:
            self._build(here, self.privacy)

    @property
    def effective(self) -> RedactionFields:
        return self.redaction.at(self.group)

    @property
    def written(self) -> frozenset[str]:
        """The keys that stand at this level."""
        own = self.redaction if self.group is None else self.redaction.models[self.group]
        return frozenset(own.model_fields_set)

    def own(self, field: str) -> KeyPath | None:
        """Where ``field`` stands, if at this level."""
        if field not in self.written:
            return None
        return (*self.here, field) if self.group is None else (*self.here, "models", self.group, field)

    def place(self, field: str, *causes: str) -> KeyPath | None:
        """Where to tell what is wrong with ``field``; None: it is as the tenant has it, and told there.
        ``causes``: what else at this level may have made it wrong."""
        if self.group is None or self.redaction.mode == "off":
            return self.own(field) or (*self.here, field)
        return next((path for key in (field, *causes) if (path := self.own(key))), None)

    def _entities(self, here: RedactionFields) -> None:
        place = self.place("entities", "engine", "recognisers", "deny")
        if place is None:
            return
        if not here.looked_for:
            self.faults.add(place, "names nothing: there is nothing to look for")
        for index, entity in enumerate(here.entities):
            wrong = self._wrong(here, entity)
            if wrong is not None:
                at = (*place, index) if place[-1] == "entities" else place
                self.faults.add(at, *wrong)

    def _wrong(self, here: RedactionFields, entity: str) -> tuple[str, str | None] | None:
        """What is wrong with asking for ``entity``, and what may have been meant."""
        if entity == DENIED:
            return None if here.deny else ("DENY_LIST has no words: write them into deny", None)
        if entity in here.own_entities:
            return None
        known = _known(here.engine)
        if entity in NAME_ENTITIES and here.engine == "fast":
            return f"{entity} needs engine: presidio, and a model in privacy.model_path", None
        if entity in NAME_ENTITIES and self.privacy is not None and self.privacy.model_path is None:
            return f"{entity} is found by a model: name its folder in privacy.model_path", None
        if entity in known:
            return None
        if entity in PRESIDIO_ENTITIES:
            return f"{entity} needs engine: presidio", None
        names = ", ".join(sorted(known))
        wrong = f"{printable(entity)!r} is nothing that the engine {here.engine} finds; it finds {names}"
        return wrong, nearest(entity, known | here.own_entities | PRESIDIO_ENTITIES)

    def _actions(self, here: RedactionFields) -> None:
        known = PRESIDIO_ENTITIES | here.own_entities | {DENIED}
        place = self.place("actions")
        for entity, action in here.actions.items() if place else ():
            assert place is not None
            if entity not in here.looked_for:
                wrong = "is not looked for: write it into entities, or take it out here"
                self.faults.add((*place, entity), wrong, nearest(entity, known & here.looked_for))
            elif action == "restore" and here.direction == "output":
                self.faults.add((*place, entity), f"restore {_NOT_PUT_BACK}")
        place = self.own("restore")
        if place and here.restore and here.mode != "mask":
            self.faults.add(place, f"needs mode: mask; mode {here.mode} leaves nothing to put back")
        elif place and here.restore and here.direction == "output":
            self.faults.add(place, _NOT_PUT_BACK)

    def _keys(self, here: RedactionFields) -> None:
        if self.privacy is None or self.privacy.hash_key is not None:
            return
        place = self.place("mode")
        if place and here.mode == "hash":
            self.faults.add(place, _A_KEY)
        place = self.place("actions")
        for entity, action in here.actions.items() if place else ():
            if action == "hash":
                assert place is not None
                self.faults.add((*place, entity), _A_KEY)

    def _idle(self, here: RedactionFields) -> None:
        """What is written and does nothing."""
        engines = {here.engine}
        if self.group is None:
            engines.update(one.engine for one in map(self.redaction.at, self.redaction.models))
        if engines == {"fast"}:
            for field in _ONLY_PRESIDIO:
                if place := self.own(field):
                    self.faults.add(place, "does nothing with engine: fast; it needs engine: presidio")
        place = self.own("phone_regions")
        if place and engines == {"presidio"}:
            self.faults.add(place, "does nothing with engine: presidio, which goes by languages")
        elif place:
            check_regions(self.faults, place, here.phone_regions)

    def _languages(self, here: RedactionFields) -> None:
        """A model of names may speak any language: the first one is its own."""
        place = self.own("languages")
        if place and here.engine == "presidio":
            model = here.languages[:1] if NAME_ENTITIES.intersection(here.entities) else ()
            check_languages(self.faults, place, here.languages, here.own_languages.union(model))

    def _patterns(self, here: RedactionFields) -> None:
        if place := self.place("recognisers"):
            check_recognisers(self.tree, self.faults, place, here.recognisers)
        if place := self.place("allow_patterns"):
            check_patterns(self.tree, self.faults, place, here.allow_patterns)

    def _build(self, here: RedactionFields, privacy: PrivacySettings) -> None:
        from gateway.privacy.detectors import build_detector

        spec = here.detector(privacy)
        if spec.model_path is not None and self.faults.has(_MODEL_PATH):
            return
        try:
            build_detector(spec)
        except ValueError as error:
            place = self.here if self.group is None else (*self.here, "models", self.group)
            wrong = _sentence(error)
            if all(fault.message != wrong for fault in self.faults.found):
                self.faults.add(place, wrong)


def _known(engine: str) -> frozenset[str]:
    if engine == "presidio":
        return PRESIDIO_ENTITIES
    from gateway.privacy.detect_fast import SUPPORTED

    return SUPPORTED - {DENIED}


def _sentence(error: ValueError) -> str:
    return printable(" ".join(str(error).split()), 400).removesuffix(".")
