"""Whether the files of a checkpoint are those that were written."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from .manifest import Manifest, StoredFile

_PIECE = 1 << 22
_THREADS = 4


class Fault(NamedTuple):
    """A file that is not what was written, and what is wrong with it."""

    path: Path
    why: str


def faults(folder: Path, manifest: Manifest, names: Iterable[str] | None = None) -> list[Fault]:
    """The files of a checkpoint, or those of some names, that are missing or differ from what the manifest says."""
    chosen = sorted(manifest.files if names is None else names)
    with ThreadPoolExecutor(_THREADS) as pool:
        found = pool.map(lambda name: _fault(folder / name, manifest.files[name], name, manifest), chosen)
        return [fault for fault in found if fault is not None]


def hash_of(path: Path) -> StoredFile:
    """A file as a manifest describes it.

    Raises:
        OSError: it cannot be read.
    """
    crc, size = 0, 0
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            crc = zlib.crc32(piece, crc)
            size += len(piece)
    return StoredFile(size, crc)


def _fault(path: Path, wanted: StoredFile, name: str, manifest: Manifest) -> Fault | None:
    try:
        size = path.stat().st_size
        if size != wanted.size:
            return Fault(path, f"it has {size} bytes, and {wanted.size} were written")
        found = hash_of(path)
    except FileNotFoundError:
        return Fault(path, "it is missing")
    except OSError as error:
        return Fault(path, f"it cannot be read: {error.strerror}")
    if found == wanted:
        return None
    twin = next((other for other, file in manifest.files.items() if file == found and other != name), None)
    return Fault(path, f"it is `{twin}`" if twin else "its checksum is not that of what was written")
