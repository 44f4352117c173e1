"""Files that are there whole or not at all, and models as files."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..spec.findings import FindingsError, finding
from .places import caller_place

MODEL_FILE = "model.safetensors"
PICKLED_FILE = "pytorch_model.bin"
INDEX_ENDING = ".index.json"
_UNITS = {"": 1, "B": 1} | {
    f"{letter}{ending}": base**power
    for power, letter in enumerate("KMGT", start=1)
    for ending, base in (("B", 1000), ("iB", 1024))
}


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Writes a file under a temporary name in its folder, brings it to the disk, and renames it.

    Until the rename an older file of that name stays as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.touch()
        mode = temporary.stat().st_mode  # what this process gives to new files; safetensors would make it private
        write(temporary)
        temporary.chmod(mode)
        _sync(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync(path.parent)


def save_object(value: Any, path: Path) -> None:
    """Writes an object with torch.save."""
    write_whole(path, lambda temporary: torch.save(value, temporary))


def save_tensors(state: dict[str, Any], path: Path) -> None:
    """Writes the state of a model as safetensors.

    Names are those of the plain model. Of names that share one tensor the first is stored and the file's metadata maps
    the others to it, as `safetensors.torch.load_model` expects.

    Raises:
        FindingsError: J504, the state holds something that is no tensor.
    """
    tensors, aliases = _distinct(plain(state))
    _write_tensors(tensors, aliases, path)


def save_state(state: dict[str, Any], folder: Path, limit: int, *, safe: bool) -> None:
    """Writes the state of a model into a folder: one file, or several of at most `limit` bytes and an index of them.

    A tensor that is larger than the limit has a file of its own. Files of an earlier save, in either format, go once
    the new ones are there.

    Raises:
        FindingsError: J504, the state holds something that is no tensor.
    """
    whole = MODEL_FILE if safe else PICKLED_FILE
    if safe:
        tensors, aliases = _distinct(plain(state))
    else:
        tensors, aliases = plain(state), {}
    shards = _shards(tensors, limit)
    names = [whole] if len(shards) == 1 else [_shard_name(whole, number, len(shards)) for number in range(len(shards))]
    for name, shard in zip(names, shards, strict=True):
        if safe:
            here = {alias: stored for alias, stored in aliases.items() if stored in shard}
            _write_tensors(shard, here, folder / name)
        else:
            save_object(shard, folder / name)
    written = set(names)
    if len(shards) > 1:
        index = {
            "metadata": {"total_size": sum(map(_size, tensors.values()))},
            "weight_map": {key: name for name, shard in zip(names, shards, strict=True) for key in shard},
        }
        text = json.dumps(index, indent=2) + "\n"
        write_whole(folder / f"{whole}{INDEX_ENDING}", lambda temporary: temporary.write_text(text))
        written.add(f"{whole}{INDEX_ENDING}")
    for path in folder.iterdir():
        if _OURS.fullmatch(path.name) and path.name not in written:
            path.unlink()


def bytes_of(size: int | str, keyword: str = "max_shard_size") -> int:
    """A size in bytes: a number, or a text such as `500MB`, `1.5GB` (powers of 1000) or `2GiB` (powers of 1024).

    Raises:
        FindingsError: J507, it is none.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGTkmgt]?(?:iB|[bB])?)\s*", str(size))
    unit = "" if found is None else found[2][:1].upper() + found[2][1:].replace("b", "B")
    number = 0.0 if found is None or unit not in _UNITS else float(found[1]) * _UNITS[unit]
    if number < 1:
        cause = f"{keyword}: `{size}` is no size"
        step = "use a number of bytes, or a text such as `500MB`, `10GB` or `2GiB`"
        raise FindingsError((finding("J507", cause, place=caller_place(), next_step=step),))
    return int(number)


def folder_of(given: str | os.PathLike[str], keyword: str) -> Path:
    """The path of a folder that is there or can be made.

    Raises:
        FindingsError: J507, it is no path, or a file is in its way.
    """
    path = path_of(given, keyword)
    file = next((part for part in (path, *path.parents) if part.exists() and not part.is_dir()), None)
    if file is not None:
        cause = f"{keyword}: `{path}` cannot be a folder, for `{file}` is a file"
        step = "name another folder; the file's name in it is chosen by what is saved"
        raise FindingsError((finding("J507", cause, place=caller_place(), next_step=step),))
    return path


def path_of(given: str | os.PathLike[str], keyword: str) -> Path:
    """What was given as a path.

    Raises:
        FindingsError: J507, it is none.
    """
    if not isinstance(given, str | os.PathLike):
        cause = f"{keyword}: `{given!r}` is no path"
        raise FindingsError((finding("J507", cause, place=caller_place(), next_step="use a text or a Path"),))
    return Path(given)


def plain(state: dict[str, Any]) -> dict[str, Any]:
    """The same state under the names of the plain module, without what torch.compile puts into them."""
    return {_plain_name(name): value for name, value in state.items()}


_OURS = re.compile(r"(model(-\d{5}-of-\d{5})?\.safetensors|pytorch_model(-\d{5}-of-\d{5})?\.bin)(\.index\.json)?")


def _shards(tensors: dict[str, Any], limit: int) -> list[dict[str, Any]]:
    shards: list[dict[str, Any]] = [{}]
    room = limit
    for name, value in tensors.items():
        size = _size(value)
        if shards[-1] and size > room:
            shards.append({})
            room = limit
        shards[-1][name] = value
        room -= size
    return shards


def _size(value: Any) -> int:
    return value.numel() * value.element_size() if isinstance(value, Tensor) else 0


def _shard_name(whole: str, number: int, count: int) -> str:
    stem, _, ending = whole.rpartition(".")
    return f"{stem}-{number + 1:05d}-of-{count:05d}.{ending}"


def _write_tensors(tensors: dict[str, Tensor], aliases: dict[str, str], path: Path) -> None:
    from safetensors.torch import save_file  # noqa: PLC0415 - only a process that saves pays for it

    metadata = {"format": "pt", **aliases}
    write_whole(path, lambda temporary: save_file(tensors, temporary, metadata=metadata))


def _distinct(state: dict[str, Any]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors to store, none sharing memory with another, and which stored one another name stands for.

    Of tensors in one memory the first that covers all of it is stored for all of them. Where none does, the same piece
    of memory is stored once and different pieces apart.
    """
    together: dict[Any, list[str]] = {}
    for name, value in state.items():
        if not isinstance(value, Tensor):
            cause = f"the model's state `{name}` is a {type(value).__name__}, and safetensors holds tensors only"
            step = "use `accelerator.save(model.state_dict(), path)` for such a model"
            raise FindingsError((finding("J504", cause, next_step=step),))
        memory = (value.device, value.untyped_storage().data_ptr()) if value.numel() > 0 else name
        together.setdefault(memory, []).append(name)
    kept: dict[str, Tensor] = {}
    aliases: dict[str, str] = {}
    for names in together.values():
        whole = next((name for name in names if _covers_all(state[name])), None)
        pieces: dict[Any, str] = {}
        for name in names:
            piece = None if whole is not None else _piece(state[name])
            stored = whole or pieces.setdefault(piece, name)
            if stored != name:
                aliases[name] = stored
            else:
                value = state[name].detach().cpu()
                kept[name] = (
                    value.contiguous() if len(names) == 1 else value.clone(memory_format=torch.contiguous_format)
                )
    return kept, aliases


def _covers_all(tensor: Tensor) -> bool:
    return tensor.numel() * tensor.element_size() == tensor.untyped_storage().nbytes()


def _piece(tensor: Tensor) -> tuple[Any, ...]:
    return tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tuple(tensor.stride())


def _plain_name(name: str) -> str:
    """The name without what torch.compile puts into it."""
    return name.replace("_orig_mod.", "")


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
