"""`jobc status`: how a run is doing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ..spec.findings import FindingsError
from .common import fail
from .runs import in_words, opened, run_argument, seconds

if TYPE_CHECKING:
    from pathlib import Path

    from ..compiler.plan import LaunchPlan
    from ..executor import Record
    from ..executor.handover import Told


@click.command("status", context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="For people, or the run's record for programs.",
)
@run_argument
def command(form: str, run: str) -> int:
    """Show how a run is doing: its state, what it runs, how it ended and where its logs are."""
    import json
    import os

    import msgspec

    from ..executor.handover import look

    try:
        run_dir, record, plan = opened(run)
        record, told = look(plan, run_dir, os.environ)
    except FindingsError as error:
        return fail(error)
    if form == "json":
        click.echo(json.dumps(msgspec.to_builtins(record), indent=2))
        return 0
    for name, value in _lines(run_dir, record, plan, told):
        click.echo(f"{name:<10} {value}")
    return 0


def _lines(run_dir: Path, record: Record, plan: LaunchPlan, told: Told | None) -> list[tuple[str, str]]:
    nodes, processes = plan.machines, plan.processes
    took = in_words(seconds(record.started, record.ended))
    found = [
        ("run", record.run_id),
        ("state", _state(record, told).format(took=took, code=record.exit_code)),
        *((name, value) for name, value in record.captured.items()),
        ("started", f"{record.started}, {in_words(seconds(record.started))} ago"),
        ("plan", f"{plan.digest[:8]}, {nodes} node{'s' * (nodes > 1)}, {processes} process{'es' * (processes > 1)}"),
        ("job", record.project_dir if record.asked is None else " ".join((record.asked.job, *record.asked.overrides))),
        ("files", str(run_dir)),
    ]
    if record.failed_rank is not None:
        how = f"exit code {record.failed_code}" if record.failed_signal is None else f"signal {record.failed_signal}"
        found.insert(
            2, ("failed", f"rank {record.failed_rank}: {how}   (jobc logs {record.run_id} --rank {record.failed_rank})")
        )
    return found


def _state(record: Record, told: Told | None) -> str:
    from ..executor.handover import in_words

    return _STATES[record.state] if told is None or record.state != "submitted" else in_words(told)


_STATES = {
    "running": "running for {took}",
    "succeeded": "succeeded after {took}",
    "failed": "failed with exit code {code} after {took}",
    "stopped": "stopped after {took}, exit code {code}",
    "submitted": "submitted {took} ago",
    "lost": "lost: the process that ran it is gone and left no word",
}
