"""`jobc rerun`: a run once more, as it was or with other values."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..spec.findings import FindingsError, finding
from .common import SETTINGS, fail, show_findings
from .run import carry_out, detach_option
from .runs import opened, run_argument

if TYPE_CHECKING:
    from ..compiler.plan import LaunchPlan
    from ..executor import Asked, Record


@click.command("rerun", context_settings=SETTINGS)
@detach_option
@click.option("--stale-ok", is_flag=True, help="Run the same plan although files that it runs have changed since.")
@run_argument
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...", type=click.UNPROCESSED)
def command(run: str, overrides: tuple[str, ...], *, detach: bool, stale_ok: bool) -> int:
    """Run the plan of an earlier run once more; with overrides, its job with these after those it had.

    A job with `training.checkpoint.resume: auto` goes on from its last checkpoint.
    """
    try:
        _, record, plan = opened(run)
        planned, asked = _again(record, overrides) if overrides else _same(record, plan, stale_ok=stale_ok)
        show_findings(planned.findings)
        return carry_out(planned, Path(record.project_dir), asked, detach=detach)
    except FindingsError as error:
        return fail(error)


def _same(record: Record, plan: LaunchPlan, *, stale_ok: bool) -> tuple[LaunchPlan, Asked | None]:
    from ..compiler.saved import changed

    findings = () if stale_ok else changed(plan, Path(record.project_dir), record.run_id)
    if findings:
        raise FindingsError(findings)
    return plan, record.asked


def _again(record: Record, overrides: tuple[str, ...]) -> tuple[LaunchPlan, Asked]:
    import msgspec

    from .api import load, plan

    asked = record.asked
    if asked is None or asked.job.endswith(".json"):
        cause = f"{record.run_id} was not made from a job file, and a plan takes no overrides"
        raise FindingsError((finding("J202", cause, next_step="run the job itself with `jobc run job.yaml ...`"),))
    asked = msgspec.structs.replace(asked, overrides=(*asked.overrides, *overrides))
    folders = tuple(str(Path(asked.cwd, name)) for name in asked.config_dirs)
    return plan(load(asked.job, asked.overrides, config_dirs=folders, cwd=Path(asked.cwd))), asked
