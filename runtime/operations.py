"""The same values of all processes as functions of their own, for code that has no Accelerator at hand.

Each works in the process group that is open when it is called, and is the identity where there is none.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from . import nested
from .collectives import Collectives
from .nested import rebuild
from .precision import unwrap_forward
from .world import open_world


def gather(tensor: Any) -> Any:
    """Tensors of all processes one after another in dimension 0, in any nesting; shapes have to agree."""
    return _here().gather(tensor)


def gather_object(object: Any) -> Any:  # noqa: A002 - Accelerate's name for it
    """The entries of all processes' lists as one list; of other objects the list of all processes' objects."""
    here = _here()
    return here.gather_samples(object, None, as_objects=True) if open_world().size > 1 else object


def reduce(tensor: Any, reduction: str = "mean", scale: float = 1.0) -> Any:
    """The `mean` or `sum` over all processes of each tensor, in any nesting, times `scale`, in new tensors.

    Raises:
        FindingsError: J507, the reduction is another word; J519, types or shapes differ between the processes.
    """
    return _here().reduce(tensor, reduction, scale)


def broadcast(tensor: Any, from_process: int = 0) -> Any:
    """The nesting of tensors that one process has, in every process; the others may give None."""
    return _here().broadcast_tensors(tensor, from_process)


def broadcast_object_list(object_list: list[Any], from_process: int = 0) -> list[Any]:
    """Replaces the entries of a list by those of one process's list, in place, and returns it. They are pickled."""
    object_list[:] = _here().broadcast(object_list, from_process)
    return object_list


def pad_across_processes(
    tensor: Any,
    dim: int = 0,
    pad_index: float = 0,
    pad_first: bool = False,  # noqa: FBT001, FBT002 - the signature that scripts have
) -> Any:
    """Tensors filled with `pad_index` to the largest size that a dimension has in any process, in any nesting."""
    return _here().pad(tensor, dim, pad_index, pad_first=pad_first)


def wait_for_everyone() -> None:
    """Waits until all processes are here."""
    _here().barrier()


def send_to_device(
    tensor: Any,
    device: torch.device | str | int,
    non_blocking: bool = False,  # noqa: FBT001, FBT002 - the signature that scripts have
    skip_keys: str | list[str] | None = None,
) -> Any:
    """The same nesting with its tensors on a device. Entries of dictionaries under `skip_keys` stay where they are."""
    skipped = {skip_keys} if isinstance(skip_keys, str) else set(skip_keys or ())
    target = torch.device("cuda", device) if isinstance(device, int) else torch.device(device)
    if skipped and isinstance(tensor, dict):
        moved = {
            key: value if key in skipped else send_to_device(value, target, non_blocking, skip_keys)
            for key, value in tensor.items()
        }
        return type(tensor)(moved) if type(tensor) is dict else {**tensor, **moved}
    if skipped and isinstance(tensor, list | tuple):
        return rebuild(tensor, lambda item: send_to_device(item, target, non_blocking, skip_keys))
    return nested.move(tensor, target, non_blocking=non_blocking)


def extract_model_from_parallel(
    model: nn.Module,
    keep_fp32_wrapper: bool = True,  # noqa: FBT001, FBT002 - the signature that scripts have
    keep_torch_compile: bool = True,  # noqa: FBT001, FBT002 - the same
) -> nn.Module:
    """The user's own module inside of what DistributedDataParallel put around it.

    `keep_fp32_wrapper=False` also gives it its own forward pass back, without autocast; `keep_torch_compile=False`
    takes what `torch.compile(model)` returned apart too.
    """
    compiled = getattr(model, "_orig_mod", None)
    if compiled is not None and isinstance(compiled, DistributedDataParallel):
        model = compiled
    if isinstance(model, DistributedDataParallel):
        model = model.module
    if not keep_torch_compile:
        model = getattr(model, "_orig_mod", model)
    if not keep_fp32_wrapper:
        unwrap_forward(model)
    return model


def release_memory(*objects: Any) -> list[None]:
    """One None for each object, to put in their places, after giving back the memory that nothing refers to any more.

    Write `model, optimizer = release_memory(model, optimizer)`.
    """
    count = len(objects)
    del objects
    empty_caches()
    return [None] * count


def empty_caches() -> None:
    """Collects garbage and empties the GPU's cache of free memory."""
    import gc  # noqa: PLC0415 - only who frees memory pays for it

    gc.collect()
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _here() -> Collectives:
    return Collectives(open_world())
