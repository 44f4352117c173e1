"""`jobc check`: the findings of a job and nothing else."""

from __future__ import annotations

import click

from ..spec.findings import Finding, FindingsError
from .common import SETTINGS, config_dir_option, count_errors, job_arguments, show_findings


@click.command("check", context_settings=SETTINGS)
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "sarif", "github"]),
    default="text",
    show_default=True,
    help="For people, for programs, for code scanning, or as annotations of a GitHub workflow.",
)
@config_dir_option
@job_arguments
def command(form: str, config_dirs: tuple[str, ...], job: str, overrides: tuple[str, ...]) -> int:
    """Check a job and show what is wrong with it.

    The exit code is 2 where there is an error, else 0: warnings and hints do not fail.
    """
    from .reports import as_github, as_json, as_sarif, failed

    findings = findings_of(job, overrides, config_dirs)
    if form == "json":
        click.echo(as_json(job, findings))
    elif form == "sarif":
        from .. import __version__

        click.echo(as_sarif(job, findings, __version__))
    elif form == "github":
        click.echo(as_github(job, findings), nl=bool(findings))
    else:
        show_findings(findings, err=False)
        click.echo(count_errors(findings) if failed(findings) else f"{job}: ok")
    return 2 if failed(findings) else 0


def findings_of(job: str, overrides: tuple[str, ...], config_dirs: tuple[str, ...] = ()) -> tuple[Finding, ...]:
    """What there is to say about a job: of its document, or of its plan where the document is good."""
    from .api import load, plan

    try:
        return plan(load(job, overrides, config_dirs=config_dirs)).findings
    except FindingsError as error:
        return error.findings
