"""``llm-gateway ledger``."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Annotated

import typer

from gateway.accounting.audit import Finding, known_heads, verify_writers
from gateway.accounting.chain import Head
from gateway.cli.admin_client import fail
from gateway.settings import ConfigInvalid, Settings, load

ledger = typer.Typer(help="The ledger.", no_args_is_help=True, rich_markup_mode=None)


@ledger.callback()
def _top() -> None:
    """The ledger: one row for each request, in files that prove themselves."""


@ledger.command()
def verify(
    config: Annotated[Path, typer.Option("--config", "-c", help="A YAML file, or a folder of them.")],
) -> None:
    """Prove that no row of the ledger was changed, removed or moved; works while a gateway runs, too.

    Exit code 0 and a line for each writer, or 1 and a line for each fault.
    """
    settings = read_settings(config)
    heads = asyncio.run(_heads(settings))
    folder = settings.storage.data_dir / "ledger"
    try:
        findings = verify_writers(folder, heads)
    except OSError as error:
        fail(f"{error.filename or folder} cannot be read: {error.strerror}")
    if not findings:
        typer.echo(f"no ledger in {folder}: nothing has been written yet")
    for finding in findings:
        _tell(folder, finding)
    if any(finding.problems for finding in findings):
        raise typer.Exit(1)


def read_settings(config: Path) -> Settings:
    """The configuration, or its faults and exit code 1."""
    try:
        return load(config, os.environ)
    except ConfigInvalid as invalid:
        for fault in invalid.faults:
            typer.echo(str(fault), err=True)
        raise typer.Exit(1) from None


def _tell(folder: Path, finding: Finding) -> None:
    for problem in finding.problems:
        place = str(folder / finding.writer / problem.file)
        line = f":{problem.line}" if problem.file else ""
        typer.echo(f"{place}{line}: {problem.kind}: {problem.text}", err=True)
    if finding.torn is not None:
        typer.echo(
            f"note: {folder / finding.writer / finding.torn} ends in part of a row, torn by a crash;"
            " the writer's next start moves it aside",
            err=True,
        )
    if not finding.problems:
        span = f"{finding.first} to {finding.last}" if finding.rows else "no days yet"
        proved = "end known" if finding.head_known else "end not known: no head was kept"
        typer.echo(f"ok: {finding.writer}: {finding.rows:,} rows, {span}, {proved}")


async def _heads(settings: Settings) -> dict[str, Head]:
    """What the store knows of the chains' ends; nothing where no other process shares it."""
    from gateway.storage.interface import StoreLost, StoreRefused
    from gateway.storage.opening import open_store

    try:
        store = open_store(settings.storage.url.get_secret_value(), "ledger-verify")
        if not store.shared:
            return {}
        await store.start()
        try:
            return await known_heads(store)
        finally:
            await store.aclose()
    except StoreRefused as refused:
        fail(str(refused))
    except StoreLost:
        typer.echo("note: the store cannot be asked; the ends of the chains are taken from here", err=True)
        return {}
