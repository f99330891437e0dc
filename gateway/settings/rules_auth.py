"""Rules of ``auth`` and ``kill_switches`` that one field cannot know."""

from __future__ import annotations

import json
from pathlib import Path

from gateway.settings.faults import Faults, KeyPath, nearest, printable
from gateway.settings.tree import Tree


def check_auth(tree: Tree, faults: Faults) -> None:
    for index, _ in enumerate(tree.items("auth", "jwt")):
        _issuer(tree, faults, ("auth", "jwt", index))
    for index, _ in enumerate(tree.items("kill_switches")):
        here: KeyPath = ("kill_switches", index)
        switch = tree.section(*here)
        if switch.get("scope") == "all" and switch.get("name"):
            faults.add((*here, "name"), "must not be set: the scope all takes no name")
        elif switch and switch.get("scope") != "all" and not switch.get("name"):
            faults.add((*here, "name"), "is missing: this scope needs the name of what is stopped")


def _issuer(tree: Tree, faults: Faults, here: KeyPath) -> None:
    issuer = tree.section(*here)
    file, url = issuer.get("jwks_file"), issuer.get("jwks_url")
    if issuer and not file and not url:
        faults.add(here, "needs jwks_url or jwks_file: the public keys that tokens are checked with")
    elif file and url:
        faults.add((*here, "jwks_file"), "must not be set beside jwks_url")
    elif isinstance(url, str) and not url.startswith(("https://", "http://")):
        faults.add((*here, "jwks_url"), "must be a URL that begins with https:// or http://")
    elif isinstance(file, str) and (wrong := _unusable(Path(file))):
        faults.add((*here, "jwks_file"), wrong)
    known = [*tree.section("models"), *tree.section("aliases")]
    for index, model in enumerate(tree.items(*here, "models")):
        if isinstance(model, str) and model not in ("*", *known):
            faults.add(
                (*here, "models", index),
                f"{printable(model)!r} is not a model group or alias of this configuration",
                nearest(model, known),
            )


def _unusable(file: Path) -> str | None:
    try:
        keys = json.loads(file.read_bytes())["keys"]
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    except (ValueError, KeyError, TypeError):
        return "holds no set of public keys (JWKS)"
    return None if isinstance(keys, list) and keys else "holds no public key"
