"""`jobc logs`: what the processes of a run wrote."""

from __future__ import annotations

import os
import re
import sys
import threading
from typing import TYPE_CHECKING

import click

from ..spec.findings import FindingsError
from .common import fail
from .runs import opened, run_argument, verb

if TYPE_CHECKING:
    from pathlib import Path

    from ..compiler.plan import LaunchPlan, Step
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
    try:
        run_dir, record, plan = opened(run)
    except FindingsError as error:
        return fail(error)
    if rank is not None and rank >= plan.processes:
        raise click.BadParameter(f"the run has ranks 0 to {plan.processes - 1}", param_hint="--rank")
    from ..executor.logs import in_files, inherits, show

    display = _display(pattern, plan.output.prefix, plain=inherits(plan))
    try:
        if not in_files(plan) and plan.wait:
            steps = plan.follow if follow and record.state == "submitted" else plan.logs
            return _of_scheduler(run_dir, plan, steps, rank, pattern)
        if follow:
            _follow(run_dir, plan, display, rank)
            return 0
    except FindingsError as error:
        return fail(error)
    except KeyboardInterrupt:
        return 130
    if not show(plan, run_dir, display, rank):
        why = "it writes to the terminal that it was started from; --detach keeps the output" if inherits(plan) else ""
        click.echo(f"nothing was written yet{why and ': '}{why}", err=True)
    return 0


def _follow(run_dir: Path, plan: LaunchPlan, display: Display, rank: int | None) -> None:
    from ..executor.handover import Asking
    from ..executor.logs import follow
    from ..executor.registry import record_of

    going_on = Asking(plan, run_dir, os.environ, lambda words: click.echo(words, err=True, nl=False))
    handed_over = record_of(run_dir).state == "submitted"
    follow(plan, run_dir, display, rank, going_on if handed_over else lambda: record_of(run_dir).state == "running")


def _of_scheduler(
    run_dir: Path, plan: LaunchPlan, steps: tuple[Step, ...], rank: int | None, pattern: re.Pattern[bytes] | None
) -> int:
    """What the steps of the plan write; where less is asked for, the lines of a rank or those that match."""
    if rank is None and pattern is None:
        return verb(plan, run_dir, steps)
    tag = re.compile(rb"" if rank is None else rb"(^|\s)\[%d\] " % rank)
    reader, writer = os.pipe()

    def pick() -> None:
        with os.fdopen(reader, "rb") as lines:
            for line in lines:
                if tag.search(line) and (pattern is None or pattern.search(line.rstrip(b"\n"))):
                    click.echo(line, nl=False)

    picking = threading.Thread(target=pick)
    picking.start()
    try:
        with os.fdopen(writer, "wb") as out:
            return verb(plan, run_dir, steps, out)
    finally:
        picking.join()


def _display(pattern: re.Pattern[bytes] | None, prefix: str, *, plain: bool) -> Display:
    from ..compiler.plan import Output
    from ..executor.logs import Matching, Plain
    from ..executor.screen import Screen, Sink
    from ..executor.shown import Chosen

    out, err = (Sink(stream.buffer, lambda: False) for stream in (sys.stdout, sys.stderr))
    written = Chosen(Screen(out, err, color=sys.stdout.isatty(), prefix=prefix), Output(prefix=prefix))
    display: Display = Plain(out) if plain else written
    return display if pattern is None else Matching(display, pattern)
