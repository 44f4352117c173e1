"""A checkpoint is made beside its place, complete on the disk, and then put there in one step."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from ...spec.findings import Finding, FindingsError, Place, finding
from . import folders, manifest
from .manifest import Manifest, StoredFile
from .tensors import Piece, describe, write

COMMON = "common.pt"
T = TypeVar("T")
Everyone = Callable[[Any], list[Any]]  # the objects of all processes, in order of rank


@dataclass(frozen=True, kw_only=True, slots=True)
class Draft:
    """A checkpoint that is being made: `folder` now, `target` when it is complete.

    Within a folder that already holds something it becomes a folder `base` of files, which a new manifest names.
    """

    target: Path
    folder: Path
    base: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Parcel:
    """What a process writes: pieces of tensors, and whole files by name."""

    rank: int
    pieces: list[Piece]
    blobs: dict[str, bytes]
    threads: int


def own_file(rank: int) -> str:
    """The name of the file of one process."""
    return f"own-{rank:05d}.pt"


def begin(target: Path) -> Draft:
    """Makes the temporary folder of a checkpoint; what writers that died left there goes first.

    Raises:
        OSError: it cannot be made.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    folders.sweep(target.parent)
    taken = target.is_dir() and any(target.iterdir())
    if taken:
        folders.sweep(target)
    base = f"files-{secrets.token_hex(4)}" if taken else ""
    draft = Draft(target=target, folder=folders.temporary(target / base if taken else target), base=base)
    draft.folder.mkdir()
    return draft


def fill(draft: Draft, parcel: Parcel) -> dict[str, StoredFile]:
    """Writes what this process has to the disk; the files by name.

    Raises:
        OSError: one cannot be written.
    """
    files = write(parcel.pieces, draft.folder, parcel.rank, parcel.threads)
    for name, content in parcel.blobs.items():
        with (draft.folder / name).open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        files[name] = describe(draft.folder / name)
    return files


def finish(draft: Draft, files: dict[str, StoredFile], about: Callable[[dict[str, StoredFile]], Manifest]) -> None:
    """Puts a checkpoint in its place. What else is in the folder, from hooks, becomes a part of it.

    Raises:
        OSError: it cannot be put there, or files of other processes are not to be seen here.
    """
    found = {path.relative_to(draft.folder).as_posix(): path for path in draft.folder.rglob("*") if not path.is_dir()}
    unseen = sorted(set(files) - set(found))
    if unseen:
        raise OSError(errno.ENOENT, "files that other processes wrote are not there: is the disk shared by all?")
    for name in set(found) - set(files):
        _sync_file(found[name])
        files[name] = describe(found[name])
    for folder in {path.parent for path in found.values()}:
        folders.sync(folder)
    prefix = f"{draft.base}/" if draft.base else ""
    complete = about({prefix + name: files[name] for name in sorted(files)})
    complete = msgspec.structs.replace(complete, base=draft.base)
    if not draft.base:
        _write_manifest(draft.folder, complete)
        draft.folder.rename(draft.target)
        folders.sync(draft.target.parent)
        return
    former = _former(draft.target)
    draft.folder.rename(draft.target / draft.base)
    _write_manifest(draft.target, complete)
    for name in former - set(complete.files):
        (draft.target / name).unlink(missing_ok=True)
        with suppress(OSError):  # others are in it, or it is the checkpoint itself
            (draft.target / name).parent.rmdir()


def abandon(draft: Draft) -> None:
    """Removes what was made of a checkpoint. What cannot be removed now, a later save removes."""
    shutil.rmtree(draft.folder, ignore_errors=True)


def together(everyone: Everyone, action: Callable[[], T], path: Path) -> list[T]:
    """What an action returns in each process, in order of rank, once it has succeeded in all of them.

    Raises:
        FindingsError: it failed in some process; J524 where `path` cannot be written.
    """
    done, failed = None, ()
    try:
        done = action()
    except FindingsError as error:
        failed = error.findings
    except OSError as error:
        failed = (unwritable(path, error),)
    except Exception as error:
        cause = f"the checkpoint `{path.name}` failed in another process: {type(error).__name__}: {error}"
        everyone(((finding("J524", cause, place=Place(source=str(path))),), None))
        raise
    found = everyone((failed, done))
    problems: list[tuple[Finding, ...]] = [problem for problem, _ in found if problem]
    if problems:
        raise FindingsError(failed or problems[0])
    return [value for _, value in found]


def unwritable(path: Path, error: OSError) -> Finding:
    """J524: why a checkpoint cannot be written, and what to do."""
    why = error.strerror or str(error)
    if error.filename is not None and Path(os.fsdecode(error.filename)) != path:
        why = f"{why}: {os.fsdecode(error.filename)}"
    cause = f"the checkpoint `{path.name}` cannot be written: {why}"
    step = _STEPS.get(error.errno or 0, "the checkpoints that are there stay as they are")
    return finding("J524", cause, place=Place(source=str(path)), next_step=step)


_KEPT = "; those that are there stay as they are"
_STEPS = {
    errno.ENOSPC: "make room, or set `training.checkpoint.keep`" + _KEPT,
    errno.EDQUOT: "make room, or set `training.checkpoint.keep`" + _KEPT,
    errno.EACCES: "name a folder that you may write in `training.checkpoint.folder`" + _KEPT,
    errno.EROFS: "name a folder on a disk that can be written in `training.checkpoint.folder`" + _KEPT,
}


def _former(target: Path) -> set[str]:
    try:
        return set(manifest.read(target).files)
    except FindingsError:  # the folder was no checkpoint, or is none that can be read; its files are not ours to remove
        return set()


def _write_manifest(folder: Path, complete: Manifest) -> None:
    temporary = folder / f".{manifest.FILE}.{secrets.token_hex(4)}"
    with temporary.open("xb") as file:
        file.write(manifest.encoded(complete))
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(folder / manifest.FILE)
    folders.sync(folder)


def _sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
