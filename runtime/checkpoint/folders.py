"""Folders of checkpoints: how they are named, which are complete, which one is newest, what may go."""

from __future__ import annotations

import os
import re
import secrets
import shlex
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from ...spec.findings import Finding, FindingsError
from . import manifest as manifests
from .manifest import Manifest

_NAMED_BY_US = re.compile(r"step-(\d{8,})(?:-\d+)?|checkpoint_(\d+)")
_TEMPORARY = re.compile(r"\.(.+)\.[0-9a-f]{8}\.tmp")


class Entry(NamedTuple):
    """A checkpoint, or what is left of one: then `why` says what is wrong with it and there is no manifest."""

    path: Path
    manifest: Manifest | None
    why: Finding | None = None
    unfinished: bool = False


def entries(folder: Path) -> list[Entry]:
    """The checkpoints of a folder, oldest first, and what is none that looks like one.

    Files are not looked into. A folder that is not there has none.
    """
    found = list(_entries(folder))
    return sorted(found, key=lambda item: (item.manifest.sequence if item.manifest else -1, item.path.name))


def entry(path: Path) -> Entry:
    """What a folder is that has a manifest."""
    try:
        return Entry(path, manifests.read(path))
    except FindingsError as error:
        return Entry(path, None, error.findings[0])


def complete(folder: Path) -> list[Entry]:
    """The complete checkpoints of a folder, oldest first."""
    return [item for item in entries(folder) if item.manifest is not None]


def newest(folder: Path) -> Path | None:
    """The newest complete checkpoint of a folder."""
    found = complete(folder)
    return found[-1].path if found else None


def doubtful(folder: Path) -> Entry | None:
    """A checkpoint whose manifest cannot be read, if by its name it may be newer than all complete ones."""
    found = entries(folder)
    steps = [_number(item.path) for item in found if item.manifest is not None]
    there = [item for item in found if item.manifest is None and (item.path / manifests.FILE).exists()]
    newer = [item for item in there if _number(item.path) >= max(steps, default=-1)]
    return max(newer, key=lambda item: _number(item.path), default=None)


def older(checkpoint: Path) -> Path | None:
    """The newest complete checkpoint beside this one that is older, or, where this one cannot say its age, another."""
    beside = [item for item in complete(checkpoint.parent) if item.path.name != checkpoint.name]
    try:
        age = manifests.read(checkpoint).sequence
    except FindingsError:
        age = None
    known = [item for item in beside if age is None or (item.manifest and item.manifest.sequence < age)]
    return known[-1].path if known else None


def offer(checkpoint: Path) -> str:
    """What to do about a checkpoint that cannot be loaded: in the script, and without a change of it."""
    found, folder = older(checkpoint), checkpoint.parent
    said = (
        "there is no older complete checkpoint beside it"
        if found is None
        else f'the next older complete checkpoint is `{found}`: `accelerator.load_state("{found}")`'
    )
    left = "begins anew if none is left" if found is None else "goes on from the newest complete one that is left"
    return (
        f"{said};\nor move `{checkpoint.name}` out of `{folder}`, and a job with `resume: auto` {left} there"
        f" (`jobc checkpoint verify {shlex.quote(str(folder))}` checks them all)"
    )


def next_sequence(folder: Path) -> int:
    """The number that comes after those of all checkpoints in a folder."""
    found = complete(folder)
    return 1 + (found[-1].manifest.sequence if found and found[-1].manifest else 0)


def free_name(folder: Path, name: str) -> str:
    """The name, or the first of `name-2`, `name-3`, ... that is not taken."""
    number, free = 1, name
    while (folder / free).exists():
        number += 1
        free = f"{name}-{number}"
    return free


def by_step(step: int) -> str:
    """The name of a checkpoint after so many optimizer steps."""
    return f"step-{step:08d}"


def temporary(target: Path) -> Path:
    """A name beside a folder under which it can be made; nobody else has it."""
    return target.parent / f".{target.name}.{secrets.token_hex(4)}.tmp"


def prune(folder: Path, keep: int, kept: Path) -> list[Path]:
    """Takes the oldest complete checkpoints with names of ours away until `keep` are left; never `kept`.

    Their files are still to be removed, in the folders that are returned. Whoever dies before leaves that to the next
    save.

    Raises:
        OSError: one cannot be taken away.
    """
    ours = [item.path for item in complete(folder) if _NAMED_BY_US.fullmatch(item.path.name)]
    old = [path for path in ours if path != kept][: max(0, len(ours) - keep)]
    return [path.rename(temporary(path)) for path in old]


def sweep(folder: Path) -> None:
    """Removes what writers that died left behind. One that still writes holds a lock on its folder."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if _TEMPORARY.fullmatch(path.name) and path.is_dir():
            with suppress(OSError):  # somebody else writes it, or removes it at the same time
                descriptor = lock(path)
                try:
                    shutil.rmtree(path)
                finally:
                    os.close(descriptor)


def lock(folder: Path) -> int:
    """Locks a folder for this process until the descriptor is closed or the process is gone.

    Raises:
        OSError: another process holds it, or it is not there.
    """
    import fcntl  # noqa: PLC0415 - not on Windows, where checkpoints are only looked at

    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def sync(folder: Path) -> None:
    """Brings the names in a folder to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _number(path: Path) -> int:
    """The number in a name of ours, which is less than all others where the name is not ours."""
    found = _NAMED_BY_US.fullmatch(path.name)
    return -1 if found is None else int(found[1] or found[2])


def _entries(folder: Path) -> Iterator[Entry]:
    try:
        paths = [path for path in folder.iterdir() if path.is_dir()]
    except (FileNotFoundError, NotADirectoryError):
        return
    for path in paths:
        known = (path / manifests.FILE).exists()
        if _TEMPORARY.fullmatch(path.name):
            yield Entry(path, None, unfinished=True)
        elif known or _NAMED_BY_US.fullmatch(path.name):
            yield entry(path)
