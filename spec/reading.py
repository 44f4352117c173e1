"""Reads a job file: its bytes, safely, then its tree by the reader of its format."""

from __future__ import annotations

import stat
from pathlib import Path

from .findings import Finding, FindingsError, Place, did_you_mean, finding
from .sources import Sources
from .tree import Layer, Mapping, Origin

LARGEST = 1 << 20  # bytes; a job file is a page of settings, and a larger one is some other file
FORMATS = (".yaml", ".yml", ".toml")


def read_document(
    path: Path, shown: str, sources: Sources, *, layer: Layer = "file", may_be_empty: bool = False
) -> tuple[Mapping, list[Finding]]:
    """The tree of a job file or of a file that it builds on, and the findings that did not keep it from being read.

    Args:
        path: the file.
        shown: the name under which findings show it.
        sources: takes the text, for excerpts.
        layer: what the origins of its values say; presets are YAML.
        may_be_empty: whether a file without any setting is a mapping without keys, not a mistake.

    Raises:
        FindingsError: J101 (not a readable file), J102 (not valid), J108 (not a mapping), J111, J112.
    """
    text = _read_text(path, shown)
    sources.add(shown, text)
    if may_be_empty and all(not line.strip() or line.lstrip().startswith("#") for line in text.splitlines()):
        return Mapping((), Origin(layer=layer, source=shown, line=1, column=1)), []
    if path.suffix == ".toml":
        from .toml_reader import read_toml

        return read_toml(text, shown, sources)
    from .yaml_reader import read_yaml

    return read_yaml(text, shown, sources, layer)


def _read_text(path: Path, shown: str) -> str:
    if path.suffix not in FORMATS:
        raise _unreadable(shown, f"`{shown}` does not end in .yaml, .yml or .toml", "name the file by its format")
    try:
        kind = path.stat()
        if not stat.S_ISREG(kind.st_mode):
            what = "a folder" if stat.S_ISDIR(kind.st_mode) else "not a regular file"
            raise _unreadable(shown, f"`{shown}` is {what}", "name a job file, such as job.yaml")
        with path.open("rb") as file:
            raw = file.read(LARGEST + 1)
    except FileNotFoundError as error:
        raise _unreadable(shown, f"`{shown}` does not exist", _other_jobs(path)) from error
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the path
        why = getattr(error, "strerror", None) or str(error)
        raise _unreadable(shown, f"`{shown}` cannot be read: {why}", None) from error
    if len(raw) > LARGEST:
        cause = f"`{shown}` is larger than {LARGEST >> 10} KiB"
        raise FindingsError((finding("J111", cause, place=Place(source=shown)),))
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _not_text(raw, error, shown) from error


def _not_text(raw: bytes, error: UnicodeDecodeError, shown: str) -> FindingsError:
    before = raw[: error.start].decode("utf-8", "replace")
    place = Place(source=shown, line=before.count("\n") + 1, column=len(before.rpartition("\n")[2]) + 1)
    cause = f"byte 0x{raw[error.start]:02x} is not UTF-8"
    return FindingsError((finding("J102", cause, place=place, next_step="save the file as UTF-8"),))


def _unreadable(shown: str, cause: str, next_step: str | None) -> FindingsError:
    return FindingsError((finding("J101", cause, place=Place(source=shown), next_step=next_step),))


def _other_jobs(path: Path) -> str | None:
    """The nearest job file beside a missing one."""
    try:
        names = sorted(entry.name for entry in path.parent.iterdir() if entry.suffix in FORMATS)[:50]
    except OSError:
        return f"the folder `{path.parent}` does not exist"
    hint = did_you_mean(path.name, names)
    if hint is None and names:
        return f"job files there: {', '.join(names[:5])}"
    return hint or "jobc reads job.yaml or job.toml; the README shows one of ten lines"
