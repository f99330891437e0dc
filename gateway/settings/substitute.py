"""``${NAME}`` and ``${NAME:-default}`` in scalars; ``$${`` is a literal ``${``."""

from __future__ import annotations

import re
from collections.abc import Mapping

_VARIABLE = re.compile(r"\$\$\{|\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^{}]*))?\}|\$\{")


class Unset(ValueError):
    """A variable that is not there; the message never holds a value."""


def substitute(text: str, environ: Mapping[str, str]) -> str:
    """The text with its variables. As in a shell, the default also stands for an empty variable.

    Raises ``Unset`` for a variable that is neither set nor has a default, and for what is not a variable.
    """

    def value(match: re.Match[str]) -> str:
        if match[0] == "$${":
            return "${"
        name, default = match[1], match[2]
        if name is None:
            raise Unset("write ${NAME} or ${NAME:-default}, or $${ for a literal ${")
        if default is not None:
            return environ.get(name) or default
        if name not in environ:
            raise Unset(
                f"the environment variable {name} is not set: set it, or give a default: ${{{name}:-}}"
            )
        return environ[name]

    return _VARIABLE.sub(value, text)
