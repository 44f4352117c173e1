"""Runs that others wait for."""

from __future__ import annotations

from pathlib import Path

from ..spec.findings import FindingsError, finding
from . import registry


def job_id(runs: Path, word: str) -> str:
    """The scheduler's number of an earlier run.

    Raises:
        FindingsError: J407, there is no such run; J408, its record cannot be read; J412, no scheduler has it, or it
            has failed.
    """
    record = registry.record_of(registry.find(runs, word))
    number = record.captured.get("job_id")
    if number is None:
        step = "run this job after it: `jobc wait` it, then `jobc run`"
        cause = f"`depends_on` names the run {record.run_id}, which no scheduler has a number for"
        raise FindingsError((finding("J412", cause, next_step=step),))
    if record.state in {"failed", "stopped"}:
        cause = f"`depends_on` names the run {record.run_id}, which has not succeeded: it {record.state}"
        step = f"`jobc rerun {record.run_id}` first, or leave it out of `depends_on`"
        raise FindingsError((finding("J412", cause, next_step=step),))
    return number
