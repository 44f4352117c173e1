"""`jobc wait`: until a run has ended."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..spec.findings import FindingsError
from .common import fail
from .runs import opened, run_argument

if TYPE_CHECKING:
    from ..executor import Record

_TICK = 0.1  # seconds between two looks at a record


@click.command("wait", context_settings={"help_option_names": ["-h", "--help"]})
@run_argument
def command(run: str) -> int:
    """Wait until a run has ended. The exit code is that of the run, 1 where its own process was lost."""
    try:
        record = until_ended(opened(run)[0])
    except FindingsError as error:
        return fail(error)
    except KeyboardInterrupt:
        return 130
    return 1 if record.exit_code is None else record.exit_code


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
