"""``llm-gateway check``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from gateway.settings import ConfigInvalid, Settings, load


def check(
    config: Annotated[Path, typer.Option("--config", "-c", help="A YAML file, or a folder of them.")],
) -> None:
    """Check a configuration without serving it; every fault is told at once, with its line."""
    try:
        settings = load(config, os.environ)
    except ConfigInvalid as invalid:
        for fault in invalid.faults:
            typer.echo(str(fault), err=True)
        typer.echo(_count(len(invalid.faults), "fault"), err=True)
        raise typer.Exit(1) from None
    typer.echo(f"ok: {_summary(settings)}")


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
