"""Tensors in a folder, each in a file of its own, read by mapping the file into memory."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import quote

from torch import Tensor

from ...spec.findings import FindingsError, finding
from ..places import caller_place
from ..saving import INDEX_ENDING, MODEL_FILE, write_whole

_INDEX = MODEL_FILE + INDEX_ENDING


class Folder:
    """A folder of offloaded tensors, which is a checkpoint in itself: the index says which file has which name.

    `anew` forgets what was written before, which may be of another model: what a checkpoint lacks is not to come from
    there.
    """

    def __init__(self, folder: Path, *, anew: bool = False) -> None:
        self._folder = folder
        index = folder / _INDEX
        known = json.loads(index.read_text())["weight_map"] if index.exists() else {}
        self._files: dict[str, str] = {} if anew else known
        # By file: the tensor that was mapped, and by the identity of a tensor its file. Both hold what they are about.
        self._mapped: dict[str, Tensor] = {}
        self._written: dict[int, tuple[Tensor, str]] = {}
        self._new = anew and bool(known)

    def write(self, name: str, value: Tensor) -> None:
        """Writes one tensor; what was mapped from an earlier file of its name stays what it was."""
        from safetensors.torch import save_file  # noqa: PLC0415 - only who offloads pays for it

        self._new = True
        if id(value) in self._written:  # tied: one file has two names
            self._files[name] = self._written[id(value)][1]
            return
        file = self._files[name] = f"{quote(name, safe='')}.safetensors"
        whole = value.detach().to("cpu").contiguous()
        write_whole(self._folder / file, lambda temporary: save_file({name: whole}, temporary))
        self._written[id(value)] = (value, file)
        self._mapped.pop(file, None)

    def finish(self) -> None:
        """Writes the index, once all tensors are there."""
        if not self._new:
            return
        text = json.dumps({"metadata": {}, "weight_map": self._files}, indent=2) + "\n"
        write_whole(self._folder / _INDEX, lambda temporary: temporary.write_text(text))
        self._new = False

    def read(self, name: str, like: Tensor) -> Tensor:
        """One tensor, mapped: the system reads its pages as they are used, and may drop them again.

        Raises:
            FindingsError: J504, the folder does not have it, or in another shape.
        """
        from safetensors import safe_open  # noqa: PLC0415 - only who offloads pays for it

        if name not in self._files:
            cause, step = (
                f"`{name}` has no values, here or in `{self._folder}`",
                "load a checkpoint of this model first",
            )
            raise FindingsError((finding("J504", cause, place=caller_place(), next_step=step),))
        file = self._files[name]
        if file not in self._mapped:
            with safe_open(self._folder / file, "pt") as opened:
                (stored,) = opened.keys()
                self._mapped[file] = opened.get_tensor(stored)
        found = self._mapped[file]
        if found.shape != like.shape:
            cause = f"`{name}` has shape {tuple(found.shape)} in `{self._folder}` and {tuple(like.shape)} in the model"
            step = "use a folder of its own for each model"
            raise FindingsError((finding("J504", cause, place=caller_place(), next_step=step),))
        return found
