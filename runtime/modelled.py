"""Models out of their wrappings, and their files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from ..spec.findings import FindingsError, finding
from . import operations, saving
from .configured import ConfiguredView
from .nested import tensors
from .places import caller_place
from .strategies.base import Strategy


class ModelView(ConfiguredView):
    """A view of a training whose models can be taken out and written to files."""

    _strategy: Strategy

    def unwrap_model(
        self,
        model: nn.Module,
        keep_fp32_wrapper: bool = True,  # noqa: FBT001, FBT002 - the signature that scripts have
        keep_torch_compile: bool = True,  # noqa: FBT001, FBT002 - the same
    ) -> nn.Module:
        """The user's own module inside a prepared one. Its forward pass keeps the job's precision.

        `keep_fp32_wrapper=False` gives it its own forward pass back; `keep_torch_compile=False` takes what
        `torch.compile(model)` returned apart too (a model that the job compiles is compiled in place).
        """
        return operations.extract_model_from_parallel(
            self._strategy.unwrap(model), keep_fp32_wrapper, keep_torch_compile
        )

    def get_state_dict(
        self,
        model: nn.Module,
        unwrap: bool = True,  # noqa: FBT001, FBT002, ARG002 - the signature that scripts have
    ) -> dict[str, Any]:
        """The state of the user's own module, whole, under its plain names, at least in the first process.

        All processes have to call it. Names are those of the plain module either way.
        """
        return saving.plain(self._strategy.whole_state(model))

    def save_model(
        self,
        model: nn.Module,
        save_directory: str | Path,
        max_shard_size: int | str = "10GB",
        safe_serialization: bool = True,  # noqa: FBT001, FBT002 - the signature that scripts have
    ) -> None:
        """Writes a model to `save_directory/model.safetensors`, each file whole or not at all, under its plain names.

        A model larger than `max_shard_size` (bytes, or `500MB`, `2GiB`) becomes several files and
        `model.safetensors.index.json`, which says in which file each name is. Files of an earlier save go.
        `safe_serialization=False` writes `pytorch_model.bin` with `torch.save`. Tensors that share memory are stored
        once; `load_checkpoint_in_model` ties them again. Every process calls it; the first one of the job writes, and
        all return when the files are there.

        Raises:
            FindingsError: J504, this is no model, or its state holds something that is no tensor; J507, the size is
                none, or the folder cannot be one.
        """
        limit = saving.bytes_of(max_shard_size)
        if not isinstance(model, nn.Module):
            cause = f"`save_model` was given a {type(model).__name__}, which is no model"
            step = "give it a torch.nn.Module; `accelerator.save(state, path)` writes a dictionary"
            raise FindingsError((finding("J504", cause, place=caller_place(), next_step=step),))
        folder = saving.folder_of(save_directory, "save_directory")
        state = self._strategy.whole_state(model)
        self.wait_for_everyone()  # another process may still read what this replaces
        if self.is_main_process:
            saving.save_state(state, folder, limit, safe=safe_serialization)
        self.wait_for_everyone()

    def save(self, obj: Any, f: str | Path, safe_serialization: bool = False) -> None:  # noqa: FBT001, FBT002 - the signature that scripts have
        """Writes an object with `torch.save`, whole or not at all, in the first process of the job; others go on.

        `safe_serialization` writes a dictionary of tensors as safetensors.

        Raises:
            FindingsError: J504, tensors in it are in pieces, of which a process has one.
        """
        if any(hasattr(item, "device_mesh") for item in tensors(obj)):
            cause = "`save` was given tensors of which each process has a part, so that the file would hold parts too"
            step = "save `accelerator.get_state_dict(model)`, or call `accelerator.save_model(model, folder)`"
            raise FindingsError((finding("J504", cause, place=caller_place(), next_step=step),))
        if self.is_main_process:
            saving.save_tensors(obj, Path(f)) if safe_serialization else saving.save_object(obj, Path(f))
