"""`jobc run`: carries out the plan that `jobc plan` shows."""

from __future__ import annotations

import click

from ..spec.findings import FindingsError
from .common import SETTINGS, config_dir_option, fail, job_arguments, show_findings


@click.command("run", context_settings=SETTINGS)
@config_dir_option
@job_arguments
def command(config_dirs: tuple[str, ...], job: str, overrides: tuple[str, ...]) -> int:
    """Run a job exactly as its plan says.

    The exit code is that of the first process that failed, 128 and the signal's number where one ended it, 130 after
    Ctrl-C, and 2 for a job that cannot be run as written.
    """
    from .api import execute_plan, load, plan

    try:
        spec = load(job, overrides, config_dirs=config_dirs)
        planned = plan(spec)
        show_findings(planned.findings)
        return execute_plan(planned, spec).exit_code
    except FindingsError as error:
        return fail(error)
