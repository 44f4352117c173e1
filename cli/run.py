"""`jobc run`: carries out the plan that `jobc plan` shows."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..spec.findings import FindingsError
from .common import SETTINGS, config_dir_option, fail, job_arguments, jobs_option, show_findings

if TYPE_CHECKING:
    from ..compiler.plan import LaunchPlan
    from ..executor import Asked
    from ..spec import ResolvedSpec


def detach_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Adds `--detach`."""
    return click.option("-d", "--detach", is_flag=True, help="Return at once, with the run's id; its output is kept.")(
        function
    )


@click.command("run", context_settings=SETTINGS)
@detach_option
@click.option("--stale-ok", is_flag=True, help="Run a saved plan although files that it runs have changed since.")
@click.option("-m", "--multirun", is_flag=True, help="Run every combination of overrides with several values.")
@jobs_option
@config_dir_option
@job_arguments
def command(
    config_dirs: tuple[str, ...],
    job: str,
    overrides: tuple[str, ...],
    *,
    detach: bool,
    stale_ok: bool,
    multirun: bool,
    jobs: int | None,
) -> int:
    """Run a job exactly as its plan says, or a plan that `jobc plan -o` saved.

    The exit code is that of the first process that failed, 128 and the signal's number where one ended it, 130 after
    Ctrl-C, and 2 for a job that cannot be run as written. With -m each run keeps its output in its own folder.
    """
    from ..executor import Asked
    from .api import refuse_planned

    asked = Asked(job=os.path.abspath(job), overrides=overrides, config_dirs=config_dirs, cwd=str(Path.cwd()))  # noqa: PTH100 - links stay
    try:
        if jobs is not None and not multirun:
            raise click.UsageError("`--jobs` belongs to `-m`, which makes several runs.")
        if multirun:
            return _sweep(asked, job, jobs, detach=detach)
        planned, spec = _planned(job, overrides, config_dirs, stale_ok=stale_ok)
        refuse_planned(planned)
        show_findings(planned.findings)
        return carry_out(planned, Path(spec.project_dir), asked, detach=detach)
    except FindingsError as error:
        return fail(error)


def carry_out(planned: LaunchPlan, project_dir: Path, asked: Asked | None, *, detach: bool) -> int:
    """Runs a plan, here or in a process of its own, and says its id; the exit code.

    Raises:
        FindingsError: it cannot be started.
    """
    from .api import execute_plan, refuse_planned

    refuse_planned(planned)
    if not detach:
        return execute_plan(planned, project_dir, asked=asked, begun=_say).exit_code
    if planned.wait:  # a scheduler has it: nothing of ours need stay
        outcome = execute_plan(planned, project_dir, asked=asked, begun=_say, wait=False)
        if outcome.exit_code == 0:
            click.echo(outcome.run_id)
        return outcome.exit_code
    from .detach import detached

    click.echo(detached(lambda begun: execute_plan(planned, project_dir, asked=asked, begun=begun)))
    return 0


def _sweep(asked: Asked, job: str, jobs: int | None, *, detach: bool) -> int:
    import msgspec

    from ..compiler.compile import compile_arrays
    from .api import refuse_planned, sweep
    from .multirun import One, Sweep, title_of
    from .plan import fail_sweep

    swept = sweep(job, asked.overrides, config_dirs=asked.config_dirs)
    if any(one.plan is None for one in swept):
        return fail_sweep(swept)
    for one in swept:
        if one.plan is not None:
            refuse_planned(one.plan)
    words = [one.overrides for one in swept]
    made = [(one.overrides, one.spec, one.plan) for one in swept if one.plan is not None and one.spec is not None]
    plans = tuple(
        One(
            title_of(plan.name, overrides, words),
            plan,
            Path(spec.project_dir),
            msgspec.structs.replace(asked, overrides=overrides),
        )
        for overrides, spec, plan in made
    )
    if detach and not all(one.plan.wait for one in plans):
        raise click.UsageError("`-m` shows how runs on this machine go on; leave `--detach` out.")
    for finding in dict.fromkeys(finding for one in plans for finding in one.plan.findings):
        show_findings((finding,))
    arrays = compile_arrays([(spec, plan) for _, spec, plan in made], jobs)
    every = Sweep(plans, jobs or 1, arrays)
    if detach and jobs is not None and sum(len(array.plans) for array in arrays) < len(plans):
        raise click.UsageError("`--jobs` asks jobc to stay, or the scheduler for an array; leave `--detach` out.")
    return every.hand_over() if detach else every.carry_out()


def _say(run_dir: Path) -> None:
    click.secho(f"jobc: run {run_dir.name}", err=True, dim=True)


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
