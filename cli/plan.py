"""`jobc plan`: the dry run."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING

import click

from ..spec.findings import Finding, FindingsError, Place, finding
from .common import SETTINGS, config_dir_option, fail, job_arguments, jobs_option, show_findings

if TYPE_CHECKING:
    from ..compiler.plan import LaunchPlan
    from ..spec import ResolvedSpec
    from .api import Swept


@click.command("plan", context_settings=SETTINGS)
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "sh", "sagemaker-sdk", "sagemaker-sdk-v2"]),
    default="text",
    show_default=True,
    help="For people, for programs, a script that runs the job, or Python for the SDK of SageMaker.",
)
@click.option("-m", "--multirun", is_flag=True, help="Plan every combination of overrides with several values.")
@jobs_option
@click.option("-o", "--output", metavar="FILE", help="Save the plan to FILE.json; `jobc run FILE.json` runs it.")
@click.option("--files", is_flag=True, help="Show what is written into each file, too.")
@config_dir_option
@job_arguments
def command(
    form: str,
    multirun: bool,
    jobs: int | None,
    output: str | None,
    files: bool,
    config_dirs: tuple[str, ...],
    job: str,
    overrides: tuple[str, ...],
) -> int:
    """Show the complete launch plan of a job without running it, or a plan that was saved."""
    if multirun and output is not None:
        raise click.UsageError("`-o` saves one plan, and `-m` makes several.")
    if files and (multirun or form != "text"):
        raise click.UsageError("`--files` belongs to the text of one plan; the other forms hold the files anyway.")
    if jobs is not None and not multirun:
        raise click.UsageError("`--jobs` belongs to `-m`, which makes several plans.")
    if multirun:
        return _sweep(form, config_dirs, job, overrides, jobs)
    try:
        planned, spec = _planned(job, overrides, config_dirs)
        if output is not None:
            from . import saved

            saved.write(planned, spec, output)
    except FindingsError as error:
        return fail(error)
    if form == "json":
        from ..compiler.plan import encode

        click.echo(encode(planned))
    elif form != "text":
        try:
            script = _script(form, planned, spec)
        except FindingsError as error:
            return fail(error)
        click.echo(script, nl=False)
    else:
        from ..compiler.text import render_text

        folders = [word for name in config_dirs for word in ("--config-dir", name)]
        again = shlex.join(["jobc", "run", output or job, *(() if output else (*overrides, *folders))])
        color = sys.stdout.isatty()
        text = render_text(planned, spec, f"{again}   runs exactly this", color=color, files=files)
        click.echo(text, color=color)
    return 0


def _script(form: str, planned: LaunchPlan, spec: ResolvedSpec) -> str:
    """The plan as a script of bash, or as Python for an SDK.

    Raises:
        FindingsError: J349, it has no such form.
    """
    from ..compiler.plan import CallApi

    place = Place(source=f"--format {form}")
    if form == "sh":
        from ..compiler.shell import render_shell

        if any(isinstance(step, CallApi) for step in planned.submit):
            cause = "the plan calls a service's API, and a shell has no word for that"
            step = "`--format json` holds each request, `--format sagemaker-sdk` is Python for one of SageMaker"
            raise FindingsError((finding("J349", cause, place=place, next_step=step),))
        return render_shell(planned, {"project_dir": spec.project_dir, "python": sys.executable})
    from ..compiler.sagemaker import sdk

    try:
        return sdk.render_v3(planned) if form == "sagemaker-sdk" else sdk.render_v2(planned)
    except sdk.InexpressibleError as error:
        cause, step = "the plan is none for SageMaker", "choose `target=sagemaker`"
        if error.members:
            cause = f"this version of the SDK has no argument for {', '.join(f'`{name}`' for name in error.members)}"
            other = "sagemaker-sdk-v2" if form == "sagemaker-sdk" else "sagemaker-sdk"
            step = f"try `--format {other}`, or take the request from `--format json`"
        raise FindingsError((finding("J349", cause, place=place, next_step=step),)) from error


def _planned(job: str, overrides: tuple[str, ...], config_dirs: tuple[str, ...]) -> tuple[LaunchPlan, ResolvedSpec]:
    """The plan of a job, or a saved one as it is."""
    from .api import load, plan

    if not job.endswith(".json"):
        spec = load(job, overrides, config_dirs=config_dirs)
        return plan(spec), spec
    from . import saved

    saved.refuse_overrides(job, overrides)
    return saved.read(job)


def _sweep(form: str, config_dirs: tuple[str, ...], job: str, overrides: tuple[str, ...], jobs: int | None) -> int:
    """Every plan of a sweep, or what is wrong with some of them."""
    from .api import sweep

    if form not in ("text", "json"):
        step = "take the script of one plan, without `-m`; or `--format json`, which holds all plans"
        place = Place(source=f"--format {form}")
        return fail(FindingsError((finding("J207", "a script runs one job", place=place, next_step=step),)))
    try:
        swept = sweep(job, overrides, config_dirs=config_dirs)
    except FindingsError as error:
        return fail(error)
    if any(one.plan is None for one in swept):
        return fail_sweep(swept)
    from ..compiler.compile import compile_arrays
    from ..compiler.sweep import Planned, render_sweep

    plans = tuple(
        Planned(one.overrides, one.spec, one.plan) for one in swept if one.spec is not None and one.plan is not None
    )
    arrays = compile_arrays([(planned.spec, planned.plan) for planned in plans], jobs)
    if form == "json":
        from ..compiler.plan import canonical

        listed = [{"overrides": one.overrides, "plan": one.plan} for one in plans]
        click.echo(canonical({"plans": listed, "arrays": arrays}))
    else:
        folders = [word for name in config_dirs for word in ("--config-dir", name)]
        first = shlex.join(["jobc", "plan", job, *plans[0].overrides, *folders])
        color = sys.stdout.isatty()
        click.echo(render_sweep(plans, arrays, first, color=color), color=color)
    return 0


def fail_sweep(swept: tuple[Swept, ...]) -> int:
    """Each finding once, with the plans that have it where not all have."""
    found: dict[Finding, list[str]] = {}
    for one in swept:
        for item in one.findings if one.plan is None else ():
            found.setdefault(item, []).append(shlex.join(one.overrides))
    for item, plans in found.items():
        if len(plans) < len(swept):
            more = f"  ... and {len(plans) - 3} more\n" if len(plans) > 3 else ""
            click.echo("".join(f"  {text}\n" for text in plans[:3]) + more, err=True, nl=False)
        show_findings((item,))
    bad = sum(one.plan is None for one in swept)
    click.echo(f"{bad} of {len(swept)} plans {'has' if bad == 1 else 'have'} errors", err=True)
    return 2
