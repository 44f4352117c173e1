"""What every target that copies the job's files checks, and the hashes that a plan keeps of them."""

from __future__ import annotations

import hashlib
import os
import posixpath
from collections.abc import Iterator
from pathlib import Path

from ...spec import Finding, Place, ResolvedSpec, finding
from ..logs import left_out
from ..sending import IGNORE_FILE, BadPatternError, sent_files
from .local import missing_files

#: Larger projects are copied all the same; a hint says what could stay here.
_LARGE = 100 * 2**20


def files_of(spec: ResolvedSpec, exclude: tuple[str, ...]) -> tuple[str, ...]:
    """The files of the job's folder that are copied."""
    return sent_files(spec.project_dir, left_out(spec, exclude))


def hashes(spec: ResolvedSpec, files: tuple[str, ...]) -> dict[str, str]:
    """The hash of each file."""
    root = Path(spec.project_dir)
    return {name: f"sha256:{hashlib.sha256((root / name).read_bytes()).hexdigest()}" for name in files}


def check_sent(spec: ResolvedSpec, exclude: tuple[str, ...], most: int | None = None) -> Iterator[Finding]:
    """Files that the job names and that are not copied, names that no plan can hold, and much of it.

    Args:
        spec: the resolved job.
        exclude: patterns of files that stay here.
        most: bytes that the machines take, packed.
    """
    job = spec.job
    if posixpath.isabs(job.workdir) or job.workdir.startswith(".."):
        cause = f"`workdir: {job.workdir}` is no folder of the job, so that it is not copied to the machines"
        yield finding("J302", cause, place=spec.place("workdir"), next_step="use a folder below the job file's")
    if job.script is not None and (posixpath.isabs(job.script) or job.script.startswith("..")):
        cause = f"`script: {job.script}` is no file of the job's folder, so that it is not copied to the machines"
        yield finding("J302", cause, place=spec.place("script"), next_step="put the job file above the script")
    yield from missing_files(spec)
    if Path(spec.project_dir).is_dir():
        yield from _what_is_copied(spec, exclude, most)


def _what_is_copied(spec: ResolvedSpec, exclude: tuple[str, ...], most: int | None) -> Iterator[Finding]:
    place = spec.place("target")
    try:
        files = files_of(spec, exclude)
    except BadPatternError as error:
        cause = f"`{error.pattern}` leaves out nothing: it is no pattern"
        where = Place(source=IGNORE_FILE, line=error.line) if error.line else spec.place("target.exclude")
        yield finding("J106", cause, place=where, next_step="write it as git does in a .gitignore")
        return
    for name in files:
        shown = name.encode(errors="backslashreplace").decode()
        if shown.encode() != os.fsencode(name):
            cause = f"the name of the file `{shown}` is not UTF-8, and a plan is text"
            step = "rename it, or leave it out with `target.exclude` or a .jobcignore"
            yield finding("J315", cause, place=place, next_step=step)
    size = sum((Path(spec.project_dir) / name).stat().st_size for name in files)
    if size > _LARGE:
        cause = f"{size / 2**20:.0f} MiB are copied to each machine"
        if most is not None and size > most:
            cause += f", where at most {most / 2**20:.0f} MiB are taken, packed"
        yield finding("J314", cause, place=place, next_step="leave data out with `target.exclude` or a .jobcignore")
