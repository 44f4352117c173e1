"""Files that are there whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..spec.findings import FindingsError, finding

MODEL_FILE = "model.safetensors"


def write_whole(path: Path, write: Callable[[Path], None]) -> None:
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
    from safetensors.torch import save_file  # noqa: PLC0415 - only a process that saves pays for it

    tensors, aliases = _distinct({_plain_name(name): value for name, value in state.items()})
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
