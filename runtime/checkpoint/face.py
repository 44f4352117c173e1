"""What an Accelerator shows of checkpoints."""

from __future__ import annotations

from operator import index
from pathlib import Path
from typing import Any

from torch.utils.hooks import RemovableHandle

from ...spec.findings import FindingsError, finding
from ..modelled import ModelView
from ..places import caller_place
from ..progress import Progress
from ..saving import path_of
from .hooks import Load, Save
from .keeper import Keeper
from .schedule import Epochs


class Checkpointed(ModelView):
    """A view of a training that is saved and loaded."""

    _keeper: Keeper
    _progress: Progress

    @property
    def step(self) -> int:
        """Optimizer steps since the training began, those before it was resumed included."""
        return self._progress.step

    @property
    def epoch(self) -> int:
        """Epochs of training data that are over since the training began."""
        return self._progress.epoch

    @property
    def save_iteration(self) -> int:
        """The number of the next checkpoint under `automatic_checkpoint_naming`."""
        return self._keeper.iteration

    def save_state(
        self,
        output_dir: str | Path | None = None,
        safe_serialization: bool = True,  # noqa: FBT001, FBT002 - the signature that scripts have
        *,
        full_model: bool = False,
    ) -> Path | None:
        """Saves everything that the training needs to go on as if nothing had happened; all processes call it.

        The checkpoint is a folder that is there complete or not at all: `output_dir`, or one in the folder of
        checkpoints (`training.checkpoint.folder`, or `checkpoints` in `project_dir`) that is named by its step. Where
        the job says `asynchronous`, one copy is made, and it is written while the training goes on.

        `full_model` also writes each model whole, as `save_model` does, for other programs; `safe_serialization=False`
        makes that a pickled file. The checkpoint itself is safetensors either way. The checkpoint's folder comes back,
        or None where it failed and the job says `on_error: continue`.

        Raises:
            FindingsError: J507 it is no path or arguments contradict each other, J524 the checkpoint, or the one before
                it, cannot be written, J525 one is still being written, J528 a part of the state could not be read back.
        """
        if not safe_serialization and not full_model:
            cause = "safe_serialization: a checkpoint is written as safetensors, whatever `False` asks for"
            step = "leave it away; with `full_model=True` it says how the whole model beside it is written"
            place = caller_place("safe_serialization")
            raise FindingsError((finding("J507", cause, place=place, next_step=step),))
        output_dir = None if output_dir is None else path_of(output_dir, "output_dir")
        return self._keeper.save(output_dir, whole=full_model, safe=safe_serialization)

    def load_state(self, input_dir: str | Path | None = None) -> Path | None:
        """Gives everything that is prepared and registered the state of a checkpoint; all processes call it.

        Without `input_dir` it is the newest complete one of the folder of checkpoints. The number of processes and the
        paradigm may be others than when it was saved. The checkpoint's folder comes back, or None where there is none
        yet and the job says `resume: auto`.

        Raises:
            FindingsError: J507 it is no path, J520 there is no complete checkpoint, J521 a file of it is damaged, J522
                it is not one of this training, J523 a newer jobc wrote it. The next older one is named.
        """
        return self._keeper.load(None if input_dir is None else path_of(input_dir, "input_dir"))

    def epochs(self, total: int) -> Epochs:
        """The epochs that are left of `total`, by number from 0: `for epoch in accelerator.epochs(10):`.

        Where the job says `resume: auto` and there is a complete checkpoint, it is loaded first, once. In each epoch
        iterate a prepared loader once; after a resume in the middle of one, it gives the batches that are left. A
        checkpoint that is due at the end of an epoch is saved when the code for that epoch is done.

        Raises:
            FindingsError: J507, it is no whole number; and what `load_state` raises.
        """
        try:
            total = index(total)
        except TypeError:
            cause = f"total: `{total!r}` is no number of epochs"
            step = "use a whole number, such as `accelerator.epochs(10)`"
            raise FindingsError((finding("J507", cause, place=caller_place(), next_step=step),)) from None
        self._keeper.resume()
        return Epochs(range(self.epoch, total), self._keeper.flush)

    def register_for_checkpointing(self, *objects: Any, **named: Any) -> None:
        """Saves and loads these objects too, each by its `state_dict` and `load_state_dict`.

        An object given by keyword has that name, so that it is found again in whatever order objects are registered;
        others are named by their order. What is no tensor is saved by the first process.

        Raises:
            FindingsError: J504, an object has no such methods; J507, a name is taken.
        """
        self._keeper.register(objects, named)

    def register_save_state_pre_hook(self, hook: Save) -> RemovableHandle:
        """Calls `hook(models, weights, folder)` before models are saved; the handle's `remove()` ends it.

        `weights` are the whole states of the prepared models, in order. A state that the hook takes out of the list is
        not saved: the hook does that itself. All files that it writes to the folder become a part of the checkpoint.
        """
        return self._keeper.hooks.before_save(hook)

    def register_load_state_pre_hook(self, hook: Load) -> RemovableHandle:
        """Calls `hook(models, folder)` before models are loaded; the handle's `remove()` ends it.

        A model that the hook takes out of the list is not loaded: the hook does that itself.
        """
        return self._keeper.hooks.before_load(hook)
