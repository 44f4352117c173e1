"""The runs of this machine: found by name, listed newest first."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path

import msgspec

from ..spec.findings import FindingsError, finding
from . import record as records
from .record import Record


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """A run in the registry. `record` is None where it cannot be read, and `why` says why."""

    run_dir: Path
    record: Record | None
    why: str = ""


def listed(runs: Path) -> Iterator[Run]:
    """Every run, the newest first; none where no run was ever started."""
    try:
        names = [entry.name for entry in runs.iterdir() if entry.is_dir()]
    except FileNotFoundError:
        return
    for name in sorted(names, key=_moment, reverse=True):
        yield _read(runs / name)


def find(runs: Path, word: str) -> Path:
    """The folder of a run that is named by its id, the beginning of its id, or `last`.

    Raises:
        FindingsError: J407, there is no such run, or there are several.
    """
    try:
        names = sorted((entry.name for entry in runs.iterdir() if entry.is_dir()), key=_moment)
    except FileNotFoundError:
        names = []
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


def _moment(name: str) -> tuple[str, str]:
    """What runs are sorted by: the time of their start, which their names end with."""
    _, _, stamp = name.rpartition("-")
    head = name.removesuffix(f"-{stamp}")
    return head[-15:], name


def _read(run_dir: Path) -> Run:
    try:
        return Run(run_dir=run_dir, record=records.load(run_dir))
    except (OSError, ValueError) as error:  # msgspec's errors are ValueErrors
        return Run(run_dir=run_dir, record=None, why=str(error))
