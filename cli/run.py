"""`jobc run`: carries out the plan that `jobc plan` shows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..spec.findings import FindingsError
from .common import SETTINGS, config_dir_option, fail, job_arguments, show_findings

if TYPE_CHECKING:
    from ..compiler.plan import LaunchPlan
    from ..spec import ResolvedSpec


@click.command("run", context_settings=SETTINGS)
@click.option("--stale-ok", is_flag=True, help="Run a saved plan although files that it runs have changed since.")
@config_dir_option
@job_arguments
def command(config_dirs: tuple[str, ...], job: str, overrides: tuple[str, ...], *, stale_ok: bool) -> int:
    """Run a job exactly as its plan says, or a plan that `jobc plan -o` saved.

    The exit code is that of the first process that failed, 128 and the signal's number where one ended it, 130 after
    Ctrl-C, and 2 for a job that cannot be run as written.
    """
    from .api import execute_plan

    try:
        planned, spec = _planned(job, overrides, config_dirs, stale_ok=stale_ok)
        show_findings(planned.findings)
        return execute_plan(planned, Path(spec.project_dir)).exit_code
    except FindingsError as error:
        return fail(error)


def _planned(
    job: str, overrides: tuple[str, ...], config_dirs: tuple[str, ...], *, stale_ok: bool
) -> tuple[LaunchPlan, ResolvedSpec]:
    from .api import load, plan

    if not job.endswith(".json"):
        spec = load(job, overrides, config_dirs=config_dirs)
        return plan(spec), spec
    from ..compiler.saved import changed
    from . import saved

    saved.refuse_overrides(job, overrides)
    planned, spec = saved.read(job)
    findings = () if stale_ok else changed(planned, Path(spec.project_dir), job)
    if findings:
        raise FindingsError(findings)
    return planned, spec
