"""``llm-gateway schema``."""

from __future__ import annotations

import json

import typer

from gateway.settings import json_schema


def schema() -> None:
    """Print the JSON Schema of the configuration, for editors."""
    typer.echo(json.dumps(json_schema(), indent=2, ensure_ascii=False))
