"""The command: one file for each subcommand."""

from __future__ import annotations

import os
import sys
from importlib.metadata import version

import typer

from gateway.cli import (
    check,
    demo,
    keys,
    kill,
    ledger,
    project,
    redact,
    redactions,
    schema,
    serve,
    spend,
    worker,
)

app = typer.Typer(
    name="llm-gateway",
    help="An async reverse proxy between applications and model providers.\n\n"
    "Start with `llm-gateway demo`: it needs no account, key or configuration.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(demo.demo)
app.command()(serve.serve)
app.command(hidden=True)(worker.worker)
app.command()(check.check)
app.command()(schema.schema)
app.command()(spend.spend)
app.command()(redactions.redactions)
app.command()(project.project)
app.command()(redact.redact)
app.add_typer(keys.keys, name="keys")
app.add_typer(kill.kill, name="kill")
app.add_typer(ledger.ledger, name="ledger")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"llm-gateway {version('llm-gateway')}")
        raise typer.Exit


@app.callback()
def _top(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version and leave."
    ),
) -> None:
    """Options that stand before any command."""


def main() -> None:
    """Runs the command; exit codes: 0 done, 1 the answer is no, 2 wrong usage."""
    _open_standard_streams()
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as error:  # of standard output: files and sockets have messages of their own
        print(f"error: {error.strerror or error}", file=sys.stderr)
        _leave_quietly()


def _open_standard_streams() -> None:
    """Started with one of them closed (``>&-``), the process would give its number to a socket."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def _leave_quietly() -> None:
    """Without a second complaint about what could not be written."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.exit(1)
