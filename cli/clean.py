"""`jobc clean`: removes the records and logs of runs that have ended."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import click

from ..spec.findings import FindingsError
from .common import fail
from .runs import home, seconds

if TYPE_CHECKING:
    from ..executor.registry import Run

_UNITS = {"min": 60, "h": 3600, "d": 86400, "w": 604800}


def _age(_context: click.Context, _parameter: click.Parameter, text: str | None) -> float | None:
    if text is None:
        return None
    match = re.fullmatch(r"(\d+)(min|h|d|w)", text)
    if match is None:
        raise click.BadParameter(f"`{text}` is no age; write a number and min, h, d or w, such as 30d")
    return int(match[1]) * _UNITS[match[2]]


@click.command("clean", context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--older-than", "age", metavar="AGE", callback=_age, help="Runs that began before: 12h, 30d, 8w.")
@click.option("--keep", type=click.IntRange(min=0), help="All but the last so many.")
@click.option("-n", "--dry-run", is_flag=True, help="Say what would be removed.")
@click.argument("runs", nargs=-1, metavar="[RUN]...")
def command(age: float | None, keep: int | None, runs: tuple[str, ...], *, dry_run: bool) -> int:
    """Remove the folders of runs that have ended: records, plans and logs. Checkpoints are not among them.

    Name the runs, or say which with --older-than and --keep (both: those that neither spares). A run that goes on is
    never removed.
    """
    from ..executor.record import UNDERWAY
    from ..executor.registry import find, listed, remove, sweep

    if not runs and age is None and keep is None:
        raise click.UsageError("Name runs, or say which with --older-than or --keep.")
    try:
        named = {find(home(), word) for word in runs}
        for number, run in enumerate(listed(home())):
            chosen = run.run_dir in named if named else _chosen(run, number, age, keep)
            if not chosen:
                continue
            if run.record is not None and run.record.state in UNDERWAY:
                if named:
                    click.echo(f"{run.run_dir.name} runs; stop it first (jobc stop {run.run_dir.name})", err=True)
                continue
            if dry_run or remove(run.run_dir):
                click.echo(run.run_dir.name)
        if not dry_run:
            sweep(home())
    except FindingsError as error:
        return fail(error)
    return 0


def _chosen(run: Run, number: int, age: float | None, keep: int | None) -> bool:
    if keep is not None and number < keep:
        return False
    return age is None or run.record is None or seconds(run.record.started) >= age
