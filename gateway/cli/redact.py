"""``llm-gateway redact``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.redact_options import Engine, Kind, Mode, Options, Scan

if TYPE_CHECKING:
    from gateway.cli.redact_verdict import Verdict
    from gateway.privacy.policy import Policy

File = Annotated[
    str | None,
    typer.Argument(metavar="FILE", help="A text or the JSON body of a request; - is standard input."),
]
Config = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="Try a tenant's policy: a YAML file, or a folder of them."),
]
Tenant = Annotated[str | None, typer.Option(metavar="NAME", help="Whose policy; needs --config.")]
Model = Annotated[
    str | None, typer.Option(metavar="NAME", help="At which model; absent: that of the body.")
]
EngineOption = Annotated[
    Engine | None, typer.Option("--engine", help="Without --config: what searches.  [default: fast]")
]
Entity = Annotated[
    list[str] | None,
    typer.Option(
        "--entity",
        metavar="ENTITY",
        help="Look for this only; repeat for several; absent: the default ones.",
    ),
]
ModeOption = Annotated[Mode | None, typer.Option("--mode", help="What happens to a find.  [default: mask]")]
Language = Annotated[
    list[str] | None,
    typer.Option("--language", metavar="CODE", help="Of the text, for presidio; repeat for several."),
]
Threshold = Annotated[
    float | None, typer.Option(min=0, max=1, help="The least score of a find.  [default: 0.4]")
]
Deny = Annotated[
    list[str] | None, typer.Option(metavar="WORD", help="A word that always counts; repeat for several.")
]
Allow = Annotated[
    list[str] | None, typer.Option(metavar="VALUE", help="A value that never counts; repeat for several.")
]
Recognisers = Annotated[Path | None, typer.Option(help="Own recognisers: YAML in Presidio's format.")]
ScanOption = Annotated[
    Scan | None,
    typer.Option("--scan", help="What presidio sees: what fast flags, or all.  [default: flagged]"),
]
ModelPath = Annotated[Path | None, typer.Option(help="The model that finds names, for presidio.")]
As = Annotated[Kind | None, typer.Option("--as", help="Read FILE so; absent: as it looks.")]
ShowValues = Annotated[bool, typer.Option("--show-values", help="Print what was found in full.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object, for programs.")]
Coverage = Annotated[
    bool, typer.Option("--coverage", help="Print which parts of requests and answers are searched.")
]


def redact(
    file: File = None,
    config: Config = None,
    tenant: Tenant = None,
    model: Model = None,
    engine: EngineOption = None,
    entity: Entity = None,
    mode: ModeOption = None,
    language: Language = None,
    threshold: Threshold = None,
    deny: Deny = None,
    allow: Allow = None,
    recognisers: Recognisers = None,
    scan: ScanOption = None,
    model_path: ModelPath = None,
    as_: As = None,
    show_values: ShowValues = False,
    as_json: AsJson = False,
    coverage: Coverage = False,
) -> None:
    """Show what a policy finds in a text, and what would be sent instead. Nothing leaves this machine.

    \b
    llm-gateway redact letter.txt
    llm-gateway redact body.json --config config --tenant acme --model gpt-4o
    echo 'mail jo@example.com' | llm-gateway redact - --entity EMAIL_ADDRESS --mode hash
    llm-gateway redact --coverage

    Exit code 0, 1 if the policy would refuse the request, or 2 if there is nothing to try.
    """
    if coverage:
        from gateway.cli.redact_coverage import print_coverage

        print_coverage(as_json)
        return
    if file is None:
        raise typer.BadParameter("name a file, or - for standard input", param_hint="FILE")
    options = Options(
        engine,
        tuple(entity or ()),
        mode,
        tuple(language or ()),
        threshold,
        tuple(deny or ()),
        tuple(allow or ()),
        recognisers,
        scan,
        model_path,
    )
    _check(config, tenant, model, options)
    from gateway.cli.redact_output import print_json, print_verdict

    verdict = _verdict(file, as_, config, tenant, model, options)
    shown = verdict if show_values else verdict.without_values()
    if as_json:
        print_json(shown)
    else:
        print_verdict(shown)
    if verdict.refused:
        raise typer.Exit(1)


def _verdict(
    file: str,
    kind: Kind | None,
    config: Path | None,
    tenant: str | None,
    model: str | None,
    options: Options,
) -> Verdict:
    from gateway.cli.redact_input import read, unreadable
    from gateway.cli.redact_policy import of_options, of_tenant
    from gateway.cli.redact_verdict import judged
    from gateway.privacy.detectors import build_detector

    document = read(file, kind)
    if config is None:
        policy, whose = of_options(options), ""
    else:
        policy, whose = of_tenant(config, tenant, model, document.model)
    try:
        detector = build_detector(policy.detector)
    except ValueError as error:
        raise unreadable(str(error)) from None
    verdict = judged(document, policy, detector)
    verdict.policy = whose
    if options.mode is Mode.HASH:
        typer.echo("note: these hashes are made with a key for trials; a tenant's are others", err=True)
    _note(verdict, policy)
    return verdict


def _check(config: Path | None, tenant: str | None, model: str | None, options: Options) -> None:
    """Raises ``typer.BadParameter`` for options that do not go together."""
    if config is not None:
        given = options.first()
        if given is not None:
            message = "makes a policy of its own; leave it out, or --config"
            raise typer.BadParameter(message, param_hint=given)
        return
    for option, value in (("--tenant", tenant), ("--model", model)):
        if value is not None:
            raise typer.BadParameter("needs --config, where it is written", param_hint=option)


def _note(verdict: Verdict, policy: Policy) -> None:
    if not policy.inputs:
        typer.echo("note: this policy searches answers only; a request passes as it is", err=True)
    if verdict.took_s > policy.budget_s:
        note = f"the search took {verdict.took_s:.1f} s, and the policy's budget_s is {policy.budget_s:g}"
        typer.echo(f"note: {note}; the gateway may give up on it", err=True)
