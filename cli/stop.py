"""`jobc stop`: ends runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..spec.findings import FindingsError
from .common import fail
from .runs import opened, runs_argument, verb

if TYPE_CHECKING:
    from ..compiler.plan import LaunchPlan
    from ..executor import Record


@click.command("stop", context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--no-wait", is_flag=True, help="Ask them to end and return at once.")
@runs_argument
def command(runs: tuple[str, ...], *, no_wait: bool) -> int:
    """End runs with the steps that their plans have for that, all of them, and wait until they have ended.

    The exit code is 0 where all have ended or been asked to, else that of the first that could not be.
    """
    from .wait import until_ended

    try:
        found = dict(_asked(*one) for one in [opened(run) for run in runs])
        for run_dir, code in found.items():
            if code is None and not no_wait:
                ended = until_ended(run_dir)
                click.echo(f"{ended.run_id} {ended.state}", err=True)
    except FindingsError as error:
        return fail(error)
    except KeyboardInterrupt:
        return 130
    return next((code for code in found.values() if code), 0)


def _asked(run_dir: Path, record: Record, plan: LaunchPlan) -> tuple[Path, int | None]:
    """Ask a run to end: an exit code where that is all, because it does not run or does not hear."""
    from ..executor.record import UNDERWAY
    from ..executor.registry import record_of

    if record.state not in UNDERWAY:
        click.echo(f"{record.run_id} does not run: it is {record.state}", err=True)
        return run_dir, 0 if record.state != "lost" else 1
    code = verb(plan, run_dir, plan.stop)
    if code != 0 and record_of(run_dir).state not in {*UNDERWAY, "lost"}:
        code = 0  # it ended before it could be asked to
    return run_dir, code or None
