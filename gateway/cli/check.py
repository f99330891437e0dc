"""``llm-gateway check``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from gateway.building_privacy import names_of, policies_of
from gateway.settings import ConfigInvalid, Settings, load


def check(
    config: Annotated[Path, typer.Option("--config", "-c", help="A YAML file, or a folder of them.")],
) -> None:
    """Check a configuration without serving it; every fault is told at once, with its line.

    Warnings, of what works but is weaker than it looks, leave the exit code as it is.
    """
    try:
        settings = load(config, os.environ, build=True)
    except ConfigInvalid as invalid:
        for fault in invalid.faults:
            typer.echo(str(fault), err=True)
        typer.echo(_count(len(invalid.faults), "fault"), err=True)
        raise typer.Exit(1) from None
    for warning in _warnings(settings):
        typer.echo(f"warning: {warning}", err=True)
    typer.echo(f"ok: {_summary(settings)}")


def _warnings(settings: Settings) -> Iterator[str]:
    if settings.privacy.hash_key is None:
        wrong = "tags are hashed with a key that can be guessed; set privacy.hash_key"
        yield from (
            f"tenants.{tenant}.redaction: {wrong}" for tenant in sorted(names_of(policies_of(settings)))
        )


def _summary(settings: Settings) -> str:
    keys = sum(len(tenant.keys) for tenant in settings.tenants.values())
    counts = [
        _count(len(settings.models), "model"),
        _count(len(settings.providers), "provider"),
        _count(len(settings.tenants), "tenant"),
        _count(keys, "key"),
    ]
    return f"{', '.join(counts)}; configuration {settings.digest}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
