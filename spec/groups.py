"""Finds and reads the files that a job builds on: other documents beside it, and group files in folders.

A group is a folder; `hardware/dgx.yaml` makes `dgx` a choice of the group `hardware`. Folders are searched in this
order: the job's own, those of `--config-dir`, the presets that come with jobc. Each file is read at most once.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import NamedTuple

import msgspec

from .defaults import Item, read_items
from .findings import Finding, FindingsError, Place, finding
from .reading import FORMATS, read_document
from .sources import Sources
from .tree import Layer, Mapping, Origin

PRESETS = Path(__file__).parent.parent / "presets"

_HEADER = re.compile(r"#\s*@package\s+(\S+)\s*\Z")
_SEARCHED = (".yaml", ".toml", ".yml")


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """A file taken apart: its settings, its defaults list, and the package that its header names.

    `identity` tells whether two names mean one file.
    """

    root: Mapping
    items: tuple[Item, ...] = ()
    package: str | None = None
    shown: str = ""
    identity: str = ""
    findings: tuple[Finding, ...] = ()


class _Folder(NamedTuple):
    """A folder that is searched, and how its files are named in findings."""

    path: Path
    shown: str
    layer: Layer


class Library:
    """The files that a job can build on. Remembers what it has read."""

    def __init__(self, job: Path, shown: str, config_dirs: tuple[str, ...], cwd: Path, sources: Sources) -> None:
        self._job = job
        self._shown = shown = _printable(shown)
        self._sources = sources
        self._read: dict[str, Document | FindingsError | None] = {}
        self._folders = (
            _Folder(job.parent, os.path.dirname(shown), "file"),  # noqa: PTH120 - kept as the user wrote it
            *(_Folder(cwd / name, _printable(name), "file") for name in config_dirs),
            _Folder(PRESETS, "preset ", "preset"),
        )
        self.findings = tuple(_no_folder(name) for name in config_dirs if not (cwd / name).is_dir())

    def job(self) -> Document:
        """The job file itself.

        Raises:
            FindingsError: it cannot be read.
        """
        root, findings = read_document(self._job, self._shown, self._sources)
        job = self._take_apart(self._job, self._shown, root, findings)
        if job.package in (None, "_global_"):
            return job
        cause = f"the job itself stands at the top, and its header says `@package {job.package}`"
        where = Origin(layer="file", source=self._shown)
        problem = self._sources.finding("J115", where, cause, "leave the header out")
        return msgspec.structs.replace(job, findings=(*job.findings, problem))

    def find(self, name: str) -> Document | None:
        """The document `base` or the group file `hardware/dgx`; None where no folder has it.

        Raises:
            FindingsError: it is there and cannot be read.
        """
        if name not in self._read:
            try:
                self._read[name] = self._load(name)
            except FindingsError as error:
                self._read[name] = error
        found = self._read[name]
        if isinstance(found, FindingsError):
            raise found
        return found

    def has(self, name: str) -> bool:
        """Whether a document or group file exists, readable or not."""
        try:
            return self.find(name) is not None
        except FindingsError:
            return True

    def names(self, group: str) -> list[str]:
        """The choices of a group; of the empty group, the documents beside the job."""
        found: set[str] = set()
        if is_plain(group) or not group:
            for folder in self._folders if group else self._folders[:-1]:
                try:
                    entries = list(os.scandir(folder.path / group))
                except (OSError, ValueError):
                    continue
                found |= {
                    Path(entry.name).stem for entry in entries if entry.name.endswith(FORMATS) and not entry.is_dir()
                }
        return sorted(found - ({self._job.stem} if not group else set()))

    def groups(self) -> list[str]:
        """The groups that have at least one choice, without groups inside groups."""
        found: set[str] = set()
        for folder in self._folders:
            try:
                found |= {entry.name for entry in os.scandir(folder.path) if entry.is_dir()}
            except OSError:
                continue
        return sorted(name for name in found if not name.startswith(".") and self.names(name))

    def _load(self, name: str) -> Document | None:
        if not is_plain(name):
            return None
        group = name.rpartition("/")[0]
        for folder in self._folders:
            if group and not (folder.path / group).is_dir():
                continue
            for suffix in _SEARCHED:
                path = folder.path / f"{name}{suffix}"
                if _is_file(path):
                    shown = f"{folder.shown}{name}{suffix}"
                    if folder.layer != "preset":
                        shown = os.path.join(folder.shown, f"{name}{suffix}")  # noqa: PTH118
                    root, findings = read_document(path, shown, self._sources, layer=folder.layer, may_be_empty=True)
                    return self._take_apart(path, shown, root, findings)
        return None

    def _take_apart(self, path: Path, shown: str, root: Mapping, findings: list[Finding]) -> Document:
        items: tuple[Item, ...] = ()
        written = root.get("defaults")
        if written is not None:
            items, problems = read_items(written, self._sources)
            findings += problems
        return Document(
            root=root.without("defaults"),
            items=items,
            package=self._package(shown),
            shown=shown,
            identity=os.path.realpath(path),
            findings=tuple(findings),
        )

    def _package(self, shown: str) -> str | None:
        """What a line `# @package x` says, above the first setting."""
        for line in self._sources.lines(shown):
            text = line.strip()
            if text and not text.startswith("#"):
                break
            header = _HEADER.match(text)
            if header is not None:
                return header[1]
        return None


def _printable(path: str) -> str:
    """A path as origins and findings name it: bytes that are no UTF-8 become escapes."""
    return path.encode(errors="backslashreplace").decode()


def is_plain(name: str) -> bool:
    """Whether a name stays inside the folder it is looked up in."""
    parts = name.split("/")
    return all(part not in ("", ".", "..") and part.isprintable() and "\\" not in part for part in parts)


def _is_file(path: Path) -> bool:
    try:
        return not stat.S_ISDIR(path.stat().st_mode)
    except (OSError, ValueError):
        return False


def _no_folder(name: str) -> Finding:
    place = Place(source=f"--config-dir {name}")
    return finding("J101", f"`{name}` is not a folder", place=place, next_step="name a folder that holds group files")
