"""The runs of this machine: found by name, listed newest first."""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path

import msgspec

from ..spec.findings import FindingsError, finding
from . import record as records
from .record import MAKING, REMOVING, Record, unwritable

#: Seconds after which a folder that is still being made was left by a command that was killed.
_LEFT = 3600.0
_TRIES = 5


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """A run in the registry. `record` is None where it cannot be read, and `why` says why."""

    run_dir: Path
    record: Record | None
    why: str = ""


def listed(runs: Path) -> Iterator[Run]:
    """Every run, the newest first; none where no run was ever started."""
    for name in reversed(_names(runs)):
        found = _read(runs / name)
        if found.record is not None or os.path.lexists(found.run_dir):  # else it was removed meanwhile
            yield found


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


def remove(run_dir: Path) -> bool:
    """Remove the folder of a run: first out of sight under another name, so that none is ever seen half there.

    Returns whether it was there; another command may have been faster.

    Raises:
        FindingsError: J404, it cannot be removed.
    """
    hidden = run_dir.with_name(f"{REMOVING}{run_dir.name}")
    try:
        run_dir.rename(hidden)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise unwritable(run_dir, error) from error
    _delete(hidden)
    return True


def sweep(runs: Path) -> None:
    """Remove what commands that were killed amid making or removing a run's folder have left behind.

    Raises:
        FindingsError: J404, it cannot be removed.
    """
    try:
        with os.scandir(runs) as entries:
            found = [entry.name for entry in entries if entry.name.startswith((MAKING, REMOVING))]
    except FileNotFoundError:
        return
    for name in found:
        if name.startswith(REMOVING) or _age(runs / name) > _LEFT:
            _delete(runs / name)


def _age(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:  # it has its name now, or another command swept it away
        return 0.0


def _delete(folder: Path) -> None:
    for _ in range(_TRIES):
        try:
            shutil.rmtree(folder)
        except OSError as error:
            # Another command removes the same folder, or a process of a lost run still writes into it.
            if error.errno not in {errno.ENOENT, errno.ENOTEMPTY}:
                raise unwritable(folder, error) from error
        if not os.path.lexists(folder):
            return


def record_of(run_dir: Path) -> Record:
    """The record of a run as things stand.

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
        return Run(run_dir=run_dir, record=records.look(run_dir))
    except (OSError, ValueError) as error:  # msgspec's errors are ValueErrors
        return Run(run_dir=run_dir, record=None, why=str(error))
