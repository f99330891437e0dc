"""What the bench must know of a gateway: how to install, start and address it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

Say = Callable[[str], None]

# The fake provider's models; each gateway must offer all of them under these names.
MODELS = ("bench", "bench-burst", "bench-paced", "bench-hold")
INSTALL_S = 900


class NotInstalled(Exception):
    """This peer cannot be had here; the text says why."""


@dataclass(frozen=True)
class Launch:
    """How to start a gateway, and how to talk to it.

    ``port`` is None where the gateway picks one and prints its address. ``beside``: what must run for
    it, on the other core.
    """

    command: Sequence[str]
    port: int | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    path: str = "/v1/chat/completions"
    headers: Mapping[str, str] = field(default_factory=dict)
    model_prefix: str = ""
    beside: Sequence[Sequence[str]] = ()


class Peer(Protocol):
    """One column of the table."""

    name: str
    title: str
    note: str

    def install(self, home: Path, say: Say) -> str:
        """Make it ready below ``home`` and return its version. Raises `NotInstalled`."""

    def launch(self, folder: Path, upstream: int, port: int) -> Launch | None:
        """How to start it with its files in ``folder``, before the provider on ``upstream``.

        ``port`` is free to listen on. None: there is nothing to start.
        """


def run_install(command: Sequence[str], cwd: Path, env: Mapping[str, str] | None = None) -> str:
    """Run one step of an installation and return what it printed. Raises `NotInstalled`."""
    try:
        done = subprocess.run(
            list(command),
            cwd=cwd,
            env=env,
            capture_output=True,
            text=True,
            timeout=INSTALL_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotInstalled(f"{Path(command[0]).name}: {error}") from error
    if done.returncode:
        raise NotInstalled(_reason(done.stderr or done.stdout) or f"exit code {done.returncode}")
    return done.stdout.strip()


def _reason(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return " / ".join([line for line in lines if "error" in line.lower()][:3] or lines[-1:])[:240]


def venv_with(home: Path, distribution: str, requirements: Sequence[str], say: Say) -> str:
    """A virtual environment in ``home`` with these requirements; the distribution's version."""
    python = home / "bin" / "python"
    asking = [
        str(python),
        "-c",
        f"from importlib.metadata import version as v; print(v({distribution!r}))",
    ]
    if python.exists():
        try:
            return run_install(asking, home)
        except NotInstalled:
            pass
    say(f"installing {distribution} from PyPI into {home} (a minute or more, once)")
    home.mkdir(parents=True, exist_ok=True)
    run_install([sys.executable, "-m", "venv", str(home)], home)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    run_install([*pip, *requirements], home)
    return run_install(asking, home)
