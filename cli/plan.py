"""`jobc plan`: the dry run."""

from __future__ import annotations

import shlex
import sys

import click

from ..spec.findings import FindingsError
from .common import SETTINGS, fail, job_arguments


@click.command("plan", context_settings=SETTINGS)
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "sh"]),
    default="text",
    show_default=True,
    help="For people, for programs, or a script that runs the job.",
)
@job_arguments
def command(form: str, job: str, overrides: tuple[str, ...]) -> int:
    """Show the complete launch plan of a job without running it."""
    from .api import load, plan

    try:
        spec = load(job, overrides)
        planned = plan(spec)
    except FindingsError as error:
        return fail(error)
    if form == "json":
        from ..compiler.plan import encode

        click.echo(encode(planned))
    elif form == "sh":
        from ..compiler.shell import render_shell

        click.echo(render_shell(planned, {"project_dir": spec.project_dir, "python": sys.executable}), nl=False)
    else:
        from ..compiler.text import render_text

        again = shlex.join(["jobc", "run", job, *overrides])
        color = sys.stdout.isatty()
        click.echo(render_text(planned, spec, f"{again}   runs exactly this", color=color), color=color)
    return 0
