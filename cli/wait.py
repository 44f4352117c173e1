"""`jobc wait`: until runs have ended."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..spec.findings import FindingsError
from .common import fail
from .runs import first_code, opened, runs_argument

if TYPE_CHECKING:
    from ..executor import Record

_TICK = 0.1  # seconds between two looks at a record


@click.command("wait", context_settings={"help_option_names": ["-h", "--help"]})
@runs_argument
def command(runs: tuple[str, ...]) -> int:
    """Wait until runs have ended.

    The exit code is that of the run, the first that is not 0 where there are several, and 1 for one whose own process
    was lost.
    """
    try:
        ended = [until_ended(run_dir) for run_dir in [opened(run)[0] for run in runs]]
    except FindingsError as error:
        return fail(error)
    except KeyboardInterrupt:
        return 130
    return first_code(ended)


def until_ended(run_dir: Path) -> Record:
    """The record of a run once it no longer runs.

    Raises:
        FindingsError: J408, it cannot be read; J414, a scheduler that has it does not answer.
    """
    from ..executor.handover import Asking
    from ..executor.registry import record_of
    from .saved import plan_of

    while (record := record_of(run_dir)).state == "running":
        time.sleep(_TICK)
    if record.state != "submitted":
        return record
    going_on = Asking(plan_of(run_dir), run_dir, os.environ, lambda words: click.echo(words, err=True, nl=False))
    while going_on():
        time.sleep(_TICK)
    return record_of(run_dir)
