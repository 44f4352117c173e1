"""Whether the files of a checkpoint are those that were written."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from .manifest import Manifest, StoredFile

WORD = 8  # bytes
BLOCK = 1 << 14  # words
_MASK = (1 << 64) - 1
_THREADS = 4


class Fault(NamedTuple):
    """A file that is not what was written, and what is wrong with it."""

    path: Path
    why: str


def faults(
    folder: Path,
    manifest: Manifest,
    names: Iterable[str] | None = None,
    describe: Callable[[Path], StoredFile] | None = None,
) -> list[Fault]:
    """The files of a checkpoint, or those of some names, that are missing or differ from what the manifest says.

    `describe` is `describe` of this module, or one that is faster.
    """
    chosen = sorted(manifest.files if names is None else names)
    with ThreadPoolExecutor(_THREADS) as pool:
        found = pool.map(lambda name: _fault(folder / name, name, manifest, describe or globals()["describe"]), chosen)
        return [fault for fault in found if fault is not None]


def describe(path: Path) -> StoredFile:
    """A file as a manifest has it: its bytes, and a checksum that costs next to nothing where torch computes it.

    It is a sum over the blocks of a file, each the sum of its 64-bit words (little-endian, zeros after the end) times
    its number, modulo 2**64. Damage, and blocks that are missing, doubled or in another place, change it.

    Raises:
        OSError: the file cannot be read.
    """
    total, size = 0, 0
    summed = _summed()
    with path.open("rb") as file:
        for number, block in enumerate(iter(lambda: file.read(BLOCK * WORD), b""), start=1):
            size += len(block)
            total += number * summed(block + b"\0" * (-len(block) % WORD))
    return StoredFile(size, written(total))


def _summed() -> Callable[[bytes], int]:
    """The sum of 64-bit words: NumPy's where it is installed, which is thirty times as fast."""
    try:
        import numpy as np  # noqa: PLC0415 - only who looks at checkpoints pays for it
    except ImportError:
        return lambda block: sum(memoryview(block).cast("Q"))
    return lambda block: int(np.frombuffer(block, "<u8").sum())


def written(total: int) -> str:
    """A checksum as it stands in a manifest."""
    return f"{total & _MASK:016x}"


def _fault(path: Path, name: str, manifest: Manifest, describe: Callable[[Path], StoredFile]) -> Fault | None:
    wanted = manifest.files[name]
    try:
        size = path.stat().st_size
        if size != wanted.size:
            return Fault(path, f"it has {size} bytes, and {wanted.size} were written")
        found = describe(path)
    except FileNotFoundError:
        return Fault(path, "it is missing")
    except OSError as error:
        return Fault(path, f"it cannot be read: {error.strerror}")
    if found == wanted:
        return None
    twin = next((other for other, file in manifest.files.items() if file == found and other != name), None)
    return Fault(path, f"it is `{twin}`" if twin else "its checksum is not that of what was written")
