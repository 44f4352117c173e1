"""Files that are either there, whole, or not there."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path


def write_atomically(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Write a file under a temporary name beside its own, flush it to the disk, then rename it.

    Raises:
        OSError: it cannot be written; nothing is left behind.
    """
    temporary = path.with_name(f".{path.name[:200]}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
        temporary.replace(path)
    except BaseException:
        with suppress(FileNotFoundError):  # the file was never created, or has its name already
            temporary.unlink()
        raise


def last_lines(path: Path, count: int = 20, most_bytes: int = 65536) -> tuple[str, ...]:
    """The last lines of a file, each as it looks after its last carriage return; none if there is no file."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - most_bytes))
            raw = file.read(most_bytes)
    except FileNotFoundError:
        return ()
    lines = [line.rstrip(b"\r").rpartition(b"\r")[2] for line in raw.split(b"\n")]
    while lines and not lines[-1].strip():
        lines.pop()
    return tuple(line.decode(errors="replace") for line in lines[-count:])
