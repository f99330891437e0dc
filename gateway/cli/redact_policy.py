"""The policy that ``llm-gateway redact`` tries: a tenant's, or one made of options."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from gateway.building_privacy import policies_of
from gateway.cli.redact_input import unreadable
from gateway.cli.redact_options import Engine, Mode, Options
from gateway.cli.redact_verdict import named
from gateway.privacy.detect_fast import SUPPORTED
from gateway.privacy.entities import NAME_ENTITIES, PRESIDIO_ENTITIES
from gateway.privacy.policy import Actions, Policy
from gateway.privacy.recognisers import RecogniserFault, parse_recognisers
from gateway.settings import ConfigInvalid, PrivacySettings, RedactionSettings, Settings, load
from gateway.settings.faults import nearest

_ELSE = "or try a policy with --mode and --entity, without --config"
_TRIAL_KEY = b"llm-gateway redact: no secret"


def of_options(options: Options) -> Policy:
    """What is not given is as in a tenant's ``redaction``; hashes are made with a key that is no secret.
    Ends the command for what cannot be looked for."""
    engine = options.engine or Engine.FAST
    recognisers, own = "", frozenset[str]()
    if options.recognisers is not None:
        recognisers, own = _recognisers(options.recognisers)
    for entity in options.entities:
        _check_entity(entity, engine, own)
    settings = {
        "engine": engine.value,
        "entities": options.entities or None,
        "languages": options.languages or None,
        "threshold": options.threshold,
        "allow": options.allow,
        "deny": options.deny,
        "scan": options.scan and options.scan.value,
    }
    given = {name: value for name, value in settings.items() if value is not None}
    try:
        redaction = RedactionSettings.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        message = first["msg"].removeprefix("Value error, ")
        raise unreadable(f"--{str(first['loc'][0]).removesuffix('s')}: {message}") from None
    names = sorted(NAME_ENTITIES.intersection(redaction.entities) - own)
    if names and options.model_path is None:
        raise unreadable(f"{named(names)} can only be found with a model; give it with --model-path")
    detector = redaction.detector(PrivacySettings(model_path=options.model_path))
    actions = Actions((options.mode or Mode.MASK).value)
    return Policy(replace(detector, recognisers=recognisers), actions, _TRIAL_KEY)


def _check_entity(entity: str, engine: Engine, own: frozenset[str]) -> None:
    fast = engine is Engine.FAST
    known = own | (SUPPORTED if fast else PRESIDIO_ENTITIES)
    if entity in known:
        return
    if fast and entity in PRESIDIO_ENTITIES:
        raise unreadable(f"the engine fast does not find {entity}; add --engine presidio")
    hint = nearest(entity, known)
    meant = f"did you mean {hint}?" if hint else "its names are those of Presidio, such as EMAIL_ADDRESS"
    raise unreadable(f"nothing finds the entity {entity!r}; {meant}")


def of_tenant(config: Path, tenant: str | None, model: str | None, asked: str) -> tuple[Policy, str]:
    """The policy of a configuration, and whose it is; ends the command where there is none. ``asked``: the
    model that a body names, which counts where ``model`` is None and the configuration has it."""
    settings = _settings(config)
    name = _tenant(settings, tenant)
    if model is None and (asked in settings.models or asked in settings.aliases):
        model = asked
    group = None if model is None else _group(settings, model)
    policies = policies_of(settings)
    policy = policies.get((name, group), policies.get((name, None)))
    whose = _whose(settings, name, group)
    if policy is None:
        raise unreadable(f"{_no_policy(settings, name, group, whose)}, {_ELSE}")
    return policy, whose


def _whose(settings: Settings, tenant: str, group: str | None) -> str:
    if group is None:
        return f"the tenant {tenant}"
    several = settings.models[group].fallbacks and settings.tenants[tenant].redaction.models
    return f"the tenant {tenant} at the model {group}" + (" and its fallbacks" if several else "")


def _no_policy(settings: Settings, tenant: str, group: str | None, whose: str) -> str:
    """Why nothing is looked for."""
    redaction, place = settings.tenants[tenant].redaction, f"tenants.{tenant}.redaction"
    if group in redaction.models:
        place = f"{place}.models.{group}"
    elif "mode" not in redaction.model_fields_set:
        return f"{whose} has no redaction, so nothing is searched; write {place}"
    return f"nothing is searched for {whose}: {place}.mode is off; give it another one"


def _settings(config: Path) -> Settings:
    try:
        return load(config, os.environ)
    except ConfigInvalid as invalid:
        for fault in invalid.faults[:-1]:
            unreadable(str(fault))
        raise unreadable(str(invalid.faults[-1])) from None


def _tenant(settings: Settings, tenant: str | None) -> str:
    if tenant is not None:
        return _known(tenant, settings.tenants, "tenant")
    if len(settings.tenants) != 1:
        raise unreadable("say whose policy is meant with --tenant: " + ", ".join(settings.tenants))
    return next(iter(settings.tenants))


def _group(settings: Settings, model: str) -> str:
    return settings.aliases.get(model) or _known(model, [*settings.models, *settings.aliases], "model")


def _known(name: str, known: Iterable[str], what: str) -> str:
    names = list(known)
    if name in names:
        return name
    hint = nearest(name, names)
    meant = f"did you mean {hint}?" if hint else f"there is {', '.join(names[:10]) or 'none'}"
    raise unreadable(f"the configuration has no {what} {name!r}; {meant}")


def _recognisers(path: Path) -> tuple[str, frozenset[str]]:
    """The list of a file in Presidio's format, as JSON, and the entities that it finds."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        own = parse_recognisers(document, str(path))
    except OSError as error:
        raise unreadable(f"{path} cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise unreadable(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    except RecogniserFault as fault:
        raise unreadable(str(fault)) from None
    return json.dumps(_entries(document)), frozenset(one.entity for one in own)


def _entries(document: Any) -> list[Any]:
    """With the flags of the document in each entry that has none of its own."""
    if not isinstance(document, dict):
        return list(document)
    flags = document.get("global_regex_flags")
    more = {} if flags is None else {"global_regex_flags": flags}
    return [more | entry for entry in document["recognizers"]]
