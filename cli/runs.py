"""What the commands about runs share: a run found by its word, its state in words, times as people say them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

if TYPE_CHECKING:
    from ..compiler.plan import LaunchPlan, Step
    from ..executor import Record

_AGO = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))


def run_argument(function: Callable[..., Any]) -> Callable[..., Any]:
    """Adds RUN to a command: an id, the beginning of one, or `last`."""
    return click.argument("run", shell_complete=_complete)(function)


def runs_argument(function: Callable[..., Any]) -> Callable[..., Any]:
    """Adds RUN... to a command, one or several."""
    return click.argument("runs", metavar="RUN...", nargs=-1, required=True, shell_complete=_complete)(function)


def _complete(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    names = [entry.name for entry in os.scandir(home())] if home().is_dir() else []
    return [name for name in sorted(names, reverse=True) if name.startswith(incomplete)]


def home() -> Path:
    """The folder of run records."""
    from ..executor import runs_dir

    return runs_dir(os.environ)


def opened(word: str) -> tuple[Path, Record, LaunchPlan]:
    """A run's folder, record and plan.

    Raises:
        FindingsError: J407, there is no such run; J408, its record or its plan cannot be read.
    """
    from ..executor.registry import find, record_of
    from .saved import plan_of

    run_dir = find(home(), word)
    return run_dir, record_of(run_dir), plan_of(run_dir)


def verb(plan: LaunchPlan, run_dir: Path, steps: tuple[Step, ...], out: BinaryIO | None = None) -> int:
    """Carry out steps that a plan has for a run that was started before, with their output to a stream; the exit code.

    Raises:
        FindingsError: they cannot be carried out.
    """
    from ..executor import Settings, run_verb

    settings = Settings(
        project_dir=Path.cwd(), env=os.environ, runs_dir=home(), stdout=out or sys.stdout, stderr=sys.stderr
    )
    return run_verb(plan, run_dir, steps, settings)


def seconds(start: str, end: str | None = None) -> float:
    """Seconds between two times of a record, or from one until now."""
    until = datetime.now(UTC) if end is None else datetime.fromisoformat(end)
    return max(0.0, (until - datetime.fromisoformat(start)).total_seconds())


def in_words(duration: float) -> str:
    """A duration in its two largest units: `3d 4h`, `2min 5s`, `0s`."""
    rest, words = int(duration), list[str]()
    for name, size in _AGO:
        count, rest = divmod(rest, size)
        if count:
            words.append(f"{count}{name}")
    return " ".join(words[:2]) or "0s"


def first_code(records: Iterable[Record]) -> int:
    """The exit code of several runs that have ended: the first that is not 0; 1 for one that left none."""
    codes = (1 if record.exit_code is None else record.exit_code for record in records)
    return next((code for code in codes if code), 0)
