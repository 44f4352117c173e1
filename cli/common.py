"""What commands share: the job and its overrides as arguments, and findings as they are printed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from ..spec.findings import Finding, FindingsError

_COLORS = {"error": "red", "warning": "yellow", "hint": "cyan"}


def job_arguments(function: Callable[..., Any]) -> Callable[..., Any]:
    """Adds JOB and OVERRIDES to a command."""
    function = click.argument(
        "overrides",
        nargs=-1,
        metavar="[KEY=VALUE]...",
        type=click.UNPROCESSED,
        shell_complete=_complete("overrides"),
    )(function)
    return click.argument("job", type=click.Path(path_type=str), shell_complete=_complete("jobs"))(function)


def explain_arguments(function: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the words of `jobc explain`: a job, a path or a code, and overrides, told apart by how they look."""
    return click.argument(
        "words",
        nargs=-1,
        metavar="[JOB] [PATH|CODE] [KEY=VALUE]...",
        type=click.UNPROCESSED,
        shell_complete=_complete("explained"),
    )(function)


def _complete(what: str) -> Callable[[click.Context, click.Parameter, str], Any]:
    """A completion of arguments that is imported when a shell asks for it."""

    def complete(context: click.Context, _: click.Parameter, incomplete: str) -> Any:
        from . import candidates

        return getattr(candidates, what)(context, incomplete)

    return complete


def config_dir_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Adds `--config-dir`, which may be given several times."""
    return click.option(
        "--config-dir",
        "config_dirs",
        multiple=True,
        metavar="DIR",
        help="Search this folder for group files after the job's own; may be given several times.",
    )(function)


def jobs_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Adds `--jobs`, of a sweep."""
    return click.option(
        "--jobs",
        type=click.IntRange(min=1),
        metavar="N",
        help="Runs of -m at a time: 1 unless said, in an array of a scheduler as many as it starts.",
    )(function)


#: Words after the job are overrides, also those that look like options, so that a finding can explain them.
SETTINGS = {
    "ignore_unknown_options": True,
    "allow_interspersed_args": True,
    "help_option_names": ["-h", "--help"],
}


def show_findings(findings: tuple[Finding, ...], *, err: bool = True) -> None:
    """Prints findings, to stderr unless they are what was asked for; errors last so that they stay on the screen."""
    order = ("hint", "warning", "error")
    for finding in sorted(findings, key=lambda finding: order.index(finding.severity)):
        head, _, rest = finding.render().partition("\n")
        click.secho(head, err=err, fg=_COLORS[finding.severity], bold=True)
        click.echo(f"{rest}\n" if rest else "", err=err)


def fail(error: FindingsError) -> int:
    """Prints the findings of a job that cannot be honoured and returns the exit code for it."""
    show_findings(error.findings)
    click.echo(count_errors(error.findings), err=True)
    return 2


def count_errors(findings: tuple[Finding, ...]) -> str:
    """`3 errors`."""
    count = sum(finding.severity == "error" for finding in findings)
    return f"{count} error{'s' if count != 1 else ''}"
