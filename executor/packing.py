"""Archives that are the same whenever and wherever they are made."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Iterable
from pathlib import Path


def pack(folder: Path, names: Iterable[str]) -> bytes:
    """A .tar.gz of files, named as they are from the folder, with nothing in it that depends on when or by whom.

    Links are followed. Of a file's mode only whether it can be run is kept.

    Raises:
        OSError: a file cannot be read.
    """
    out = io.BytesIO()
    with (
        gzip.GzipFile(filename="", mode="wb", fileobj=out, mtime=0) as compressed,
        tarfile.open(fileobj=compressed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for name in sorted(names):
            path = folder / name
            content = path.read_bytes()
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            entry.mode = 0o755 if path.stat().st_mode & 0o100 else 0o644
            archive.addfile(entry, io.BytesIO(content))
    return out.getvalue()
