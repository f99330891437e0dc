"""What one field cannot know: names that must exist, and keys that belong together.

The rules look at the text of the files rather than at valid settings, so that they report their faults
beside those of single fields. They say nothing where a field is of the wrong shape.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from gateway.settings.faults import Faults, KeyPath, dotted, nearest, printable
from gateway.settings.rules_auth import check_auth
from gateway.settings.tree import Tree

_WITH_MODE = (("models", "cache"), ("models", "degrade"), ("tenants", "redaction"))
REQUIRED = ("providers", "models", "tenants")
_ONLY_HTTPX = ("proxy", "http2")
WORKERS_NEED_A_STORE = (
    "more than one worker needs storage.url to name a Redis: memory:// counts in one process only"
)


def check_rules(tree: Tree, faults: Faults, *, complete: bool) -> None:
    """``complete``: all files could be read, so what is not there is missing."""
    if complete:
        _required(tree, faults)
    _server(tree, faults)
    for name in tree.section("providers"):
        _provider(tree, faults, name)
    if complete or "providers" in tree.data:
        _deployment_providers(tree, faults)
    _deployment_ids(tree, faults)
    for name in tree.section("models"):
        _group(tree, faults, name)
    for top, key in _WITH_MODE:
        _modes(tree, faults, top, key)
    _aliases(tree, faults)
    if complete or "models" in tree.data:
        _models_of_tenants(tree, faults)
    _keys(tree, faults)
    check_auth(tree, faults)


def _required(tree: Tree, faults: Faults) -> None:
    for name in REQUIRED:
        if name not in tree.data:
            faults.add((name,), f"is missing; write {name}: {{}} if there are none")


def _server(tree: Tree, faults: Faults) -> None:
    workers, url = tree.get("server", "workers"), tree.get("storage", "url")
    if _more_than_one(workers) and (url is None or (isinstance(url, str) and url.startswith("memory://"))):
        faults.add(("server", "workers"), WORKERS_NEED_A_STORE)


def _provider(tree: Tree, faults: Faults, name: str) -> None:
    here: KeyPath = ("providers", name)
    section = tree.section(*here)
    kind = section.get("kind")
    if kind == "openai" and not section.get("base_url"):
        faults.add((*here, "base_url"), "is missing: kind openai needs the address to call")
    if kind == "simulated":
        if section.get("base_url"):
            faults.add((*here, "base_url"), "must not be set: kind simulated calls nobody")
    elif isinstance(kind, str) and section.get("simulate") is not None:
        faults.add((*here, "simulate"), "is for kind simulated only")
    if section.get("transport") != "httpx":
        for key in _ONLY_HTTPX:
            if section.get(key) not in (None, "", "false"):
                faults.add((*here, key), "needs transport: httpx")


def _deployments(tree: Tree) -> Iterator[tuple[str, int, KeyPath]]:
    for group in tree.section("models"):
        for index, _ in enumerate(tree.items("models", group, "deployments")):
            yield group, index, ("models", group, "deployments", index)


def _deployment_providers(tree: Tree, faults: Faults) -> None:
    providers = tree.section("providers")
    for _, _, path in _deployments(tree):
        _named(tree, faults, (*path, "provider"), providers, "a provider")


def _deployment_ids(tree: Tree, faults: Faults) -> None:
    seen: dict[str, KeyPath] = {}
    for group, index, path in _deployments(tree):
        own = tree.get(*path, "id")
        name = own if isinstance(own, str) else f"{group}-{index + 1}"
        if name in seen:
            where = (*path, "id") if own is not None else path
            faults.add(where, f"{_shown(tree, where, name)} is already the id of {dotted(seen[name])}")
        seen.setdefault(name, path)


def _group(tree: Tree, faults: Faults, name: str) -> None:
    here: KeyPath = ("models", name)
    groups = tree.section("models")
    for index, other in enumerate(tree.items(*here, "fallbacks")):
        path = (*here, "fallbacks", index)
        if other == name:
            faults.add(path, "a group cannot be its own fallback")
        elif other in tree.items(*here, "fallbacks")[:index]:
            faults.add(path, "is named twice")
        _named(tree, faults, path, groups, "a model group")
    degrade = tree.section(*here, "degrade")
    for mode, key in (("stale_cache", "stale_s"), ("message", "message")):
        if degrade.get("mode") == mode and degrade.get(key) is None:
            faults.add((*here, "degrade", key), f"is missing: mode {mode} needs it")


def _modes(tree: Tree, faults: Faults, top: str, key: str) -> None:
    """Whoever writes such a section wants it to do something; without its mode it does nothing."""
    for name in tree.section(top):
        section = tree.section(top, name, key)
        if section and section.get("mode") is None:
            faults.add((top, name, key, "mode"), "is missing: without it the rest has no effect")


def _aliases(tree: Tree, faults: Faults) -> None:
    groups, aliases = tree.section("models"), tree.section("aliases")
    for name, target in aliases.items():
        path: KeyPath = ("aliases", name)
        if name in groups:
            faults.add(path, "is already the name of a model group")
        elif isinstance(target, str) and target in aliases and target not in groups:
            faults.add(path, "must name a model group, not another alias")
        else:
            _named(tree, faults, path, groups, "a model group")


def _models_of_tenants(tree: Tree, faults: Faults) -> None:
    names = [*tree.section("models"), *tree.section("aliases")]
    for tenant in tree.section("tenants"):
        here: KeyPath = ("tenants", tenant)
        lists = [(*here, "models")]
        lists += [(*here, "keys", i, "models") for i, _ in enumerate(tree.items(*here, "keys"))]
        for path in lists:
            for index, model in enumerate(tree.items(*path)):
                if model != "*":
                    _named(tree, faults, (*path, index), names, "a model group or alias")
        seen: dict[object, str] = {}
        for model in tree.section(*here, "model_limits"):
            group = tree.section("aliases").get(model, model)
            if group in seen:
                faults.add((*here, "model_limits", model), f"is the same model as {seen[group]}")
            seen.setdefault(group, model)
            if model not in names:
                faults.add(
                    (*here, "model_limits", model),
                    "is not a model group or alias of this configuration",
                    nearest(model, names),
                )


def _keys(tree: Tree, faults: Faults) -> None:
    hashes: dict[str, KeyPath] = {}
    for tenant in tree.section("tenants"):
        ids: set[str] = set()
        for index, key in enumerate(tree.items("tenants", tenant, "keys")):
            path: KeyPath = ("tenants", tenant, "keys", index)
            section = key if isinstance(key, dict) else {}
            name, digest = section.get("id"), section.get("hash")
            if isinstance(name, str):
                if name in ids:
                    faults.add((*path, "id"), "is already the id of another key of this tenant")
                ids.add(name)
            if isinstance(digest, str):
                if digest in hashes:
                    faults.add((*path, "hash"), f"is already the hash of {dotted(hashes[digest])}")
                hashes.setdefault(digest, path)


def _named(tree: Tree, faults: Faults, path: KeyPath, names: Iterable[str], what: str) -> None:
    """The name at ``path`` must be one of ``names``."""
    known = list(names)
    name = tree.get(*path)
    if isinstance(name, str) and name not in known:
        faults.add(
            path, f"{_shown(tree, path, name)} is not {what} of this configuration", nearest(name, known)
        )


def _shown(tree: Tree, path: KeyPath, name: str) -> str:
    """A name as the file has it, without what a variable holds."""
    return repr(printable(tree.written.get(path, name)))


def _more_than_one(text: object) -> bool:
    return isinstance(text, str) and text.isascii() and text.isdigit() and text.lstrip("0") not in ("", "1")
