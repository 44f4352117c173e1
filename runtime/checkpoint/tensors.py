"""Pieces of tensors in safetensors files.

A file is a plain safetensors file that every reader of the format opens. A piece of a tensor that was cut is named
`NAME@0,128`, after where it starts; the file's metadata says how large the whole one is.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import json
import mmap
import os
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from . import verify
from .manifest import StoredFile

FOLDER = "tensors"
_ENDING = ".safetensors"
_LARGEST = 64 << 20  # bytes; several files are written and checked at the same time
_MOST_FILES = 32  # of one process, however much it has
_PIECE = 4 << 20
_WORD = 8
_POPULATE_READ = 22  # MADV_POPULATE_READ of Linux, which Python 3.11 has no name for
_ALIGNED = 64  # bytes; the largest items that processors load at once

#: safetensors' names of number formats. Others are stored as bytes; the file's metadata says what they are.
_NAMES = {
    torch.bool: "BOOL",
    torch.uint8: "U8",
    torch.int8: "I8",
    torch.int16: "I16",
    torch.int32: "I32",
    torch.int64: "I64",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float32: "F32",
    torch.float64: "F64",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
}
_KNOWN = {name: kind for kind, name in _NAMES.items()}


class Piece(NamedTuple):
    """A tensor, or a part of one, as it is written: its name, and its whole's name and size and where it lies there."""

    name: str
    whole: str
    size: tuple[int, ...]
    offsets: tuple[int, ...]
    tensor: Tensor


class Stored(NamedTuple):
    """A piece in a file: where its bytes begin, its form, and where it lies in a whole of this size."""

    path: Path
    begin: int
    kind: torch.dtype
    shape: tuple[int, ...]
    whole: str
    size: tuple[int, ...]
    offsets: tuple[int, ...]


def is_ours(name: str) -> bool:
    """Whether a file of a checkpoint holds pieces of tensors."""
    return Path(name).name.startswith(FOLDER) and name.endswith(_ENDING)


def pieces_in(path: Path) -> Iterator[Stored]:
    """The pieces of a file; only its header is read.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(_WORD), "little")
        fields = json.loads(file.read(length))
    about = json.loads(fields.pop("__metadata__")["jobc"])
    for name, field in fields.items():
        said = about.get(name, {})
        shape = tuple(said.get("shape", field["shape"]))
        yield Stored(
            path=path,
            begin=_WORD + length + field["data_offsets"][0],
            kind=getattr(torch, said["dtype"]) if "dtype" in said else _KNOWN[field["dtype"]],
            shape=shape,
            whole=said.get("of", name),
            size=tuple(said.get("size", shape)),
            offsets=tuple(said.get("offsets", [0] * len(shape))),
        )


def write(pieces: Iterable[Piece], folder: Path, rank: int, threads: int) -> dict[str, StoredFile]:
    """Writes pieces to files on the disk; the files by name. A file is hashed as it is written.

    Raises:
        OSError: one cannot be written.
    """
    files = _files(list(pieces))
    names = [f"{FOLDER}-{rank:05d}-{number:02d}{_ENDING}" for number in range(len(files))]
    with ThreadPoolExecutor(threads) as pool:
        done = pool.map(lambda name, content: _write(folder / name, content), names, files)
        return dict(zip(names, done, strict=True))


def _files(pieces: list[Piece]) -> list[list[Piece]]:
    """Pieces spread over files of similar sizes."""
    total = sum(_bytes_of(piece.tensor) for piece in pieces)
    limit = max(_LARGEST, -(-total // _MOST_FILES))
    files: list[list[Piece]] = [[]]
    room = limit
    for piece in pieces:
        size = _bytes_of(piece.tensor)
        if files[-1] and size > room:
            files.append([])
            room = limit
        files[-1].append(piece)
        room -= size
    return [file for file in files if file]


def _write(path: Path, pieces: list[Piece]) -> StoredFile:
    # Larger items first, so that each starts at a multiple of its own size.
    pieces = sorted(pieces, key=lambda piece: -piece.tensor.element_size())
    with path.open("xb", buffering=0) as file:
        for block in _blocks(pieces):
            left = memoryview(block)
            while left:
                left = left[file.write(left) :]
        os.fsync(file.fileno())
    return describe(path)


def describe(path: Path, maps: dict[Path, Mapped] | None = None) -> StoredFile:
    """`verify.describe` at the speed of memory. The file that was mapped for it is kept in `maps`.

    Raises:
        OSError: the file cannot be read.
    """
    size = path.stat().st_size
    rest = size % verify.SECTOR
    found = hashlib.sha256()
    if size > rest:
        mapped = Mapped(path)
        mapped.read()
        if maps is not None:
            maps[path] = mapped
        words = mapped.words((size - rest) // verify.WORD)
        sums = words.view(-1, verify.SECTOR // verify.WORD).sum(1)  # integers of torch are modulo 2**64
        found.update(_memory(sums))
    if rest:
        with path.open("rb") as file:
            file.seek(size - rest)
            found.update(verify.sums(file.read()))
    return StoredFile(size, found.hexdigest())


def _blocks(pieces: list[Piece]) -> Iterator[bytes | memoryview]:
    yield _header(pieces)
    for piece in pieces:
        tensor = piece.tensor.cpu().contiguous()
        if tensor.numel():
            memory = _memory(tensor)
            yield from (memory[start : start + _PIECE] for start in range(0, len(memory), _PIECE))


def _header(pieces: list[Piece]) -> bytes:
    fields: dict[str, Any] = {"__metadata__": {"format": "pt", "jobc": json.dumps(_about(pieces))}}
    end = 0
    for piece in pieces:
        begin, end = end, end + _bytes_of(piece.tensor)
        name = _NAMES.get(piece.tensor.dtype)
        shape = list(piece.tensor.shape) if name else [end - begin]
        fields[piece.name] = {"dtype": name or "U8", "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(fields).encode()
    text += b" " * (-(_WORD + len(text)) % _ALIGNED)
    return len(text).to_bytes(_WORD, "little") + text


def _about(pieces: list[Piece]) -> dict[str, Any]:
    """What safetensors has no words for: pieces of cut tensors, and number formats that it does not know."""
    said: dict[str, Any] = {}
    for piece in pieces:
        about: dict[str, Any] = {}
        if piece.name != piece.whole:
            about |= {"of": piece.whole, "size": piece.size, "offsets": piece.offsets}
        if piece.tensor.dtype not in _NAMES:
            about |= {"dtype": str(piece.tensor.dtype).removeprefix("torch."), "shape": list(piece.tensor.shape)}
        if about:
            said[piece.name] = about
    return said


def _memory(tensor: Tensor) -> memoryview:
    """The bytes of a contiguous tensor, which has to outlive them."""
    return memoryview((ctypes.c_char * _bytes_of(tensor)).from_address(tensor.data_ptr())).cast("B")


def _bytes_of(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


class Mapped:
    """A file in memory, read as it is touched; it is let go with the last tensor over it."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            # A private mapping that could be written, because torch warns of buffers that could not.
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)

    def tensor(self, stored: Stored) -> Tensor:
        """A piece, over the memory of the file."""
        count = torch.Size(stored.shape).numel()
        if count == 0:
            return torch.empty(stored.shape, dtype=stored.kind)
        flat = torch.frombuffer(self._map, dtype=stored.kind, count=count, offset=stored.begin)
        return flat.reshape(stored.shape)

    def read(self) -> None:
        """Brings the whole file into memory, at once instead of page by page where the system can.

        Raises:
            OSError: a part of it cannot be read.
        """
        if sys.platform != "linux":
            return
        try:
            self._map.madvise(_POPULATE_READ)
        except OSError as error:
            if error.errno != errno.EINVAL:  # Linux before 5.14, where pages come when they are touched
                raise

    def words(self, count: int) -> Tensor:
        """So many 64-bit words from the start."""
        return torch.frombuffer(self._map, dtype=torch.int64, count=count)
