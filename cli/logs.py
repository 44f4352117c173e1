"""`jobc logs`: what the processes of a run wrote."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

import click

from ..spec.findings import FindingsError
from .common import fail
from .runs import opened, run_argument

if TYPE_CHECKING:
    from ..executor.follow import Display


@click.command("logs", context_settings={"help_option_names": ["-h", "--help"]})
@click.option("-f", "--follow", is_flag=True, help="Go on while the run writes, until it ends.")
@click.option("--rank", type=click.IntRange(min=0), help="Only what this rank wrote.")
@click.option("--grep", metavar="PATTERN", help="Only lines in which this regular expression is found.")
@run_argument
def command(run: str, rank: int | None, grep: str | None, *, follow: bool) -> int:
    """Show what the processes of a run wrote, each line with its rank.

    What a single process writes to the terminal that it was started from is kept nowhere; started with --detach it is.
    """
    try:
        pattern = None if grep is None else re.compile(grep.encode())
    except re.error as error:
        raise click.BadParameter(f"`{grep}` is no regular expression: {error}", param_hint="--grep") from error
    from ..executor.registry import record_of

    try:
        run_dir, _, plan = opened(run)
    except FindingsError as error:
        return fail(error)
    if rank is not None and rank >= plan.processes:
        raise click.BadParameter(f"the run has ranks 0 to {plan.processes - 1}", param_hint="--rank")
    from ..executor.logs import follow as follow_logs
    from ..executor.logs import inherits, show

    display = _display(pattern, plain=inherits(plan))
    if follow:
        try:
            follow_logs(plan, run_dir, display, rank, lambda: record_of(run_dir).state == "running")
        except KeyboardInterrupt:
            return 130
        return 0
    if not show(plan, run_dir, display, rank):
        why = "it writes to the terminal that it was started from; --detach keeps the output" if inherits(plan) else ""
        click.echo(f"nothing was written yet{why and ': '}{why}", err=True)
    return 0


def _display(pattern: re.Pattern[bytes] | None, *, plain: bool) -> Display:
    from ..executor.logs import Matching, Plain
    from ..executor.screen import Screen, Sink

    out, err = (Sink(stream.buffer, lambda: False) for stream in (sys.stdout, sys.stderr))
    display: Display = Plain(out) if plain else Screen(out, err, color=sys.stdout.isatty())
    return display if pattern is None else Matching(display, pattern)
