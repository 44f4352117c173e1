"""The part of each process in something that has a length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset

from ..spec.findings import FindingsError, finding
from .places import caller_place


def part(inputs: Any, rank: int, size: int, *, filled: bool) -> Any:
    """The entries of process `rank` of `size`, in order; earlier processes have one more where it does not come out.

    `filled` repeats the last entry of `inputs` so that all parts are of one length.

    Raises:
        FindingsError: J504, the inputs have no length, or are a dictionary of things of different lengths.
    """
    length = _length(inputs)
    if size == 1:
        return inputs
    each, extra = divmod(length, size)
    start = rank * each + min(rank, extra)
    end = start + each + (rank < extra)
    missing = each + (extra > 0) - (end - start) if filled and length else 0
    if isinstance(inputs, Mapping):
        return {key: _cut(value, start, end, missing) for key, value in inputs.items()}
    return _cut(inputs, start, end, missing)


def _length(inputs: Any) -> int:
    if isinstance(inputs, Mapping):
        lengths = {key: _length(value) for key, value in inputs.items()}
        if len(set(lengths.values())) > 1:
            cause = f"`split_between_processes` was given a dictionary of different lengths: {lengths}"
            step = "give it values of one length each; keep what is for all processes outside of it"
            raise FindingsError((finding("J504", cause, place=caller_place(), next_step=step),))
        return next(iter(lengths.values()), 0)
    if isinstance(inputs, str | bytes) or not hasattr(inputs, "__len__") or not hasattr(inputs, "__getitem__"):
        cause = f"`split_between_processes` was given a `{type(inputs).__name__}`, which cannot be cut"
        step = "give it a sequence, a tensor, an array, a dataset with a length, or a dictionary of them"
        raise FindingsError((finding("J504", cause, place=caller_place(), next_step=step),))
    return len(inputs)


def _cut(value: Any, start: int, end: int, missing: int) -> Any:
    if isinstance(value, Tensor):
        mine = value[start:end]
        return torch.cat([mine, value[-1:].expand(missing, *value.shape[1:])]) if missing else mine
    if hasattr(value, "select") and hasattr(value, "column_names"):  # a table of the library `datasets`
        return value.select([*range(start, end), *[len(value) - 1] * missing])
    if hasattr(value, "shape"):
        return value[[*range(start, end), *[len(value) - 1] * missing]]
    if isinstance(value, list | tuple):
        return type(value)([*value[start:end], *value[-1:] * missing])
    if isinstance(value, Sequence) and not missing:
        return value[start:end]
    if isinstance(value, Sequence):
        return [*value[start:end], *[value[-1] for _ in range(missing)]]
    indices = [*range(start, end), *[len(value) - 1] * missing]
    return Subset(value, indices) if isinstance(value, Dataset) else [value[index] for index in indices]
