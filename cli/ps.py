"""`jobc ps`: the runs of this machine."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from .runs import home, in_words, seconds

if TYPE_CHECKING:
    from ..executor.registry import Run

_SHOWN = 20
_COLORS = {
    "running": "green",
    "submitted": "green",
    "failed": "red",
    "lost": "red",
    "unreadable": "red",
    "stopped": "yellow",
}


@click.command("ps", context_settings={"help_option_names": ["-h", "--help"]})
@click.option("-a", "--all", "every", is_flag=True, help=f"Show all, not only those that run and the last {_SHOWN}.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="For people, or for programs (every run, newest first).",
)
def command(form: str, *, every: bool) -> int:
    """Show the runs of this machine, the newest first: their state, when they began and how they ended."""
    from ..executor.registry import listed

    runs = [(run, "unreadable" if run.record is None else run.record.state) for run in listed(home())]
    if form == "json":
        click.echo(json.dumps([_data(run) for run, _ in runs], indent=2))
        return 0
    shown = [
        item for number, item in enumerate(runs) if every or number < _SHOWN or item[1] in {"running", "submitted"}
    ]
    if not runs:
        click.echo("no runs yet")
        return 0
    rows = [("RUN", "STATE", "STARTED", "TOOK", "EXIT", "FOLDER"), *(_row(run, state) for run, state in shown)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    for number, row in enumerate(rows):
        cells = [f"{cell:<{width}}" for cell, width in zip(row, widths, strict=False)]
        if number:
            cells[1] = click.style(cells[1], fg=_COLORS.get(row[1]))
        click.echo("  ".join([*cells, row[-1]]).rstrip())
    if len(shown) < len(runs):
        click.echo(f"... and {len(runs) - len(shown)} older (jobc ps --all)", err=True)
    return 0


def _row(run: Run, state: str) -> tuple[str, ...]:
    record = run.record
    if record is None:
        return (run.run_dir.name, state, "", "", "", run.why)
    took = "" if state == "lost" else in_words(seconds(record.started, record.ended))
    code = "" if record.exit_code is None else str(record.exit_code)
    return (record.run_id, state, f"{in_words(seconds(record.started))} ago", took, code, record.project_dir)


def _data(run: Run) -> dict[str, object]:
    import msgspec

    if run.record is None:
        return {"run_id": run.run_dir.name, "state": "unreadable", "why": run.why}
    return msgspec.to_builtins(run.record)
