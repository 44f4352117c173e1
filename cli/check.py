"""`jobc check`: the findings of a job and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ..spec.findings import Finding, FindingsError
from .common import SETTINGS, config_dir_option, count_errors, job_arguments, show_findings

if TYPE_CHECKING:
    from ..executor.preflight import Report


@click.command("check", context_settings=SETTINGS)
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "sarif", "github"]),
    default="text",
    show_default=True,
    help="For people, for programs, for code scanning, or as annotations of a GitHub workflow.",
)
@click.option(
    "--preflight",
    is_flag=True,
    help="Ask every machine of the job too: reachable, interpreter and torch, devices, port, clock, disk.",
)
@config_dir_option
@job_arguments
def command(form: str, preflight: bool, config_dirs: tuple[str, ...], job: str, overrides: tuple[str, ...]) -> int:
    """Check a job and show what is wrong with it.

    The exit code is 2 where there is an error, else 0: warnings and hints do not fail.
    """
    from .reports import as_github, as_json, as_sarif, failed

    reports: tuple[Report, ...] | None = None
    if preflight:
        reports, findings = _examined(job, overrides, config_dirs)
    else:
        findings = findings_of(job, overrides, config_dirs)
    if form == "json":
        click.echo(as_json(job, findings, reports))
    elif form == "sarif":
        from .. import __version__

        click.echo(as_sarif(job, findings, __version__))
    elif form == "github":
        click.echo(as_github(job, findings), nl=bool(findings))
    else:
        if reports:
            from .preflight import table

            click.echo(f"{table(reports)}\n")
        show_findings(findings, err=False)
        if reports == ():
            click.echo(f"{job}: this target has no machines that could be asked before a run")
        click.echo(count_errors(findings) if failed(findings) else f"{job}: ok")
    return 2 if failed(findings) else 0


def findings_of(job: str, overrides: tuple[str, ...], config_dirs: tuple[str, ...] = ()) -> tuple[Finding, ...]:
    """What there is to say about a job: of its document, or of its plan where the document is good."""
    from .api import load, plan

    try:
        return plan(load(job, overrides, config_dirs=config_dirs)).findings
    except FindingsError as error:
        return error.findings


def _examined(
    job: str, overrides: tuple[str, ...], config_dirs: tuple[str, ...]
) -> tuple[tuple[Report, ...] | None, tuple[Finding, ...]]:
    """What the machines of a job said, None where they were not asked, and all that there is to say about it."""
    from ..compiler.plan import CallApi
    from .api import load, plan, refuse_planned
    from .preflight import examine

    known: tuple[Finding, ...] = ()
    try:
        spec = load(job, overrides, config_dirs=config_dirs)
        planned = plan(spec)
        known = planned.findings
        if any(isinstance(step, CallApi) for step in planned.preflight):
            refuse_planned(planned)
        reports, found = examine(spec, planned)
    except FindingsError as error:
        return None, (*known, *error.findings)
    return reports, (*known, *found)
