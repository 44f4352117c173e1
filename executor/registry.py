"""The runs of this machine: found by name, listed newest first."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path

import msgspec

from ..spec.findings import FindingsError, finding
from . import record as records
from .record import Record, unwritable


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """A run in the registry. `record` is None where it cannot be read, and `why` says why."""

    run_dir: Path
    record: Record | None
    why: str = ""


def listed(runs: Path) -> Iterator[Run]:
    """Every run, the newest first; none where no run was ever started."""
    for name in reversed(_names(runs)):
        yield _read(runs / name)


def find(runs: Path, word: str) -> Path:
    """The folder of a run that is named by its id, the beginning of its id, or `last`.

    Raises:
        FindingsError: J407, there is no such run, or there are several.
    """
    names = _names(runs)
    if word == "last" and names:
        return runs / names[-1]
    found = [name for name in names if name == word] or [name for name in names if name.startswith(word)]
    if len(found) == 1:
        return runs / found[0]
    if found:
        step = f"name one of {', '.join(found[-4:])}"
        raise FindingsError((finding("J407", f"`{word}` is the beginning of {len(found)} runs", next_step=step),))
    near = get_close_matches(word, names, n=1)
    step = f"did you mean `{near[0]}`?" if near else "`jobc ps` lists the runs of this machine"
    raise FindingsError((finding("J407", f"there is no run `{word}`", next_step=step),))


def remove(run_dir: Path) -> None:
    """Remove the folder of a run: first out of sight under another name, so that none is ever seen half there.

    Raises:
        FindingsError: J404, it cannot be removed.
    """
    hidden = run_dir.with_name(f".removed-{run_dir.name}")
    try:
        run_dir.rename(hidden)
        shutil.rmtree(hidden)
    except OSError as error:
        raise unwritable(run_dir, error) from error


def record_of(run_dir: Path) -> Record:
    """The record of a run.

    Raises:
        FindingsError: J408, it cannot be read.
    """
    found = _read(run_dir)
    if found.record is None:
        raise unreadable(run_dir, found.why)
    return found.record


def unreadable(run_dir: Path, why: str) -> FindingsError:
    """The error that says why what a run's folder holds cannot be read."""
    step = "`jobc clean` removes such a folder where nothing of it is needed"
    return FindingsError((finding("J408", f"the run in {run_dir} cannot be read: {why}", next_step=step),))


def _names(runs: Path) -> list[str]:
    """The names of all runs, the oldest first."""
    try:
        with os.scandir(runs) as entries:
            return sorted((entry.name for entry in entries if not entry.name.startswith(".")), key=_moment)
    except FileNotFoundError:
        return []


def _moment(name: str) -> tuple[str, str]:
    """What runs are sorted by: the time of their start, which their names have before the last word."""
    return name[-20:], name


def _read(run_dir: Path) -> Run:
    try:
        return Run(run_dir=run_dir, record=records.load(run_dir))
    except (OSError, ValueError) as error:  # msgspec's errors are ValueErrors
        return Run(run_dir=run_dir, record=None, why=str(error))
