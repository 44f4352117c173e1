"""What commands share: the job and its overrides as arguments, and findings as they are printed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from ..spec.findings import Finding, FindingsError

_COLORS = {"error": "red", "warning": "yellow", "hint": "cyan"}


def job_arguments(function: Callable[..., Any]) -> Callable[..., Any]:
    """Adds JOB and OVERRIDES to a command."""
    function = click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...", type=click.UNPROCESSED)(function)
    return click.argument("job", type=click.Path(path_type=str))(function)


#: Words after the job are overrides, also those that look like options, so that a finding can explain them.
SETTINGS = {
    "ignore_unknown_options": True,
    "allow_interspersed_args": True,
    "help_option_names": ["-h", "--help"],
}


def show_findings(findings: tuple[Finding, ...]) -> None:
    """Prints findings to stderr, errors last so that they stay on the screen."""
    order = ("hint", "warning", "error")
    for finding in sorted(findings, key=lambda finding: order.index(finding.severity)):
        head, _, rest = finding.render().partition("\n")
        click.secho(head, err=True, fg=_COLORS[finding.severity], bold=True)
        click.echo(f"{rest}\n" if rest else "", err=True)


def fail(error: FindingsError) -> int:
    """Prints the findings of a job that cannot be honoured and returns the exit code for it."""
    show_findings(error.findings)
    count = sum(finding.severity == "error" for finding in error.findings)
    click.echo(f"{count} error{'s' if count != 1 else ''}", err=True)
    return 2
