"""From files and the environment to valid settings, or to every fault at once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from gateway.settings.built import check_built
from gateway.settings.explain import explain
from gateway.settings.faults import Fault, Faults, Place
from gateway.settings.root import Settings
from gateway.settings.rules import check_rules
from gateway.settings.rules_redaction import check_redaction
from gateway.settings.source import Entries, SourceFault, read
from gateway.settings.tree import TreeBuilder

SUFFIXES = (".yaml", ".yml")

Contents = list[tuple[str, bytes]]


def load(path: Path, environ: Mapping[str, str], *, build: bool = False) -> Settings:
    """The configuration of a YAML file, or of all of them in a folder. Raises ``ConfigInvalid``.

    ``build``: detectors of personal data are built too, and their model loaded, to see that they can be.
    """
    faults = Faults({(): Place(str(path), 1)})
    contents = _contents(path, faults)
    return _validated(contents, environ, faults, build)


def loads(
    text: str, environ: Mapping[str, str], file: str = "configuration", *, build: bool = False
) -> Settings:
    """The configuration of a YAML text; ``file`` is its name in faults. Raises ``ConfigInvalid``."""
    faults = Faults({(): Place(file, 1)})
    return _validated([(file, text.encode(errors="surrogatepass"))], environ, faults, build)


def _contents(path: Path, faults: Faults) -> Contents:
    contents = []
    for file in _files(path, faults):
        try:
            contents.append((str(file), file.read_bytes()))
        except (OSError, ValueError) as error:
            faults.found.append(Fault(str(file), 1, "", f"cannot be read: {_reason(error)}"))
    return contents


def _files(path: Path, faults: Faults) -> list[Path]:
    """Hidden files are left out: editors and mounted volumes keep their own there."""
    try:
        if not path.is_dir():
            return [path]
        files = [p for p in path.iterdir() if p.suffix in SUFFIXES and not p.name.startswith(".")]
    except (OSError, ValueError) as error:
        faults.found.append(Fault(str(path), 1, "", f"cannot be read: {_reason(error)}"))
        return []
    if not files:
        faults.found.append(Fault(str(path), 1, "", "holds no *.yaml or *.yml file"))
    return sorted(files)


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _validated(contents: Contents, environ: Mapping[str, str], faults: Faults, build: bool) -> Settings:
    complete = not faults.found
    builder = TreeBuilder(environ, faults)
    for file, content in contents:
        complete = _add(file, content, builder, faults) and complete
    settings = None
    try:
        settings = Settings.model_validate(builder.tree.data)
    except ValidationError as error:
        explain(error, builder.tree, faults)
    check_rules(builder.tree, faults, complete=complete)
    check_redaction(builder.tree, faults, complete=complete, build=build)
    check_built(builder.tree, faults)
    faults.raise_if_any()
    assert settings is not None
    return settings


def _add(file: str, content: bytes, builder: TreeBuilder, faults: Faults) -> bool:
    """Whether the file could be read as configuration."""
    try:
        root = read(content)
        if isinstance(root, Entries):
            builder.add(file, root)
        elif root is not None:
            raise SourceFault(root.line, "must hold keys and values, such as server:")
    except SourceFault as fault:
        faults.found.append(Fault(file, fault.line, "", fault.message))
        return False
    return True
