"""Who writes and who reads which part of which tensor.

torch.distributed.checkpoint plans it; files of ours are the storage below.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner, DefaultSavePlanner
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.planner import SavePlan, WriteItem

from .tensors import Mapped, Piece, Stored, is_ours, pieces_in


def plan(state: Mapping[str, Tensor]) -> tuple[DefaultSavePlanner, SavePlan]:
    """What this process could write of its tensors; what several have, one of them will."""
    planner = DefaultSavePlanner(flatten_state_dict=False, flatten_sharded_tensors=False)
    planner.set_up_planner(dict(state), is_coordinator=True)
    return planner, planner.create_local_plan()


def share(planner: DefaultSavePlanner, plans: Sequence[SavePlan], rank: int) -> list[Piece]:
    """What this process writes of its tensors, given what all could. Nothing is copied yet."""
    chosen, _ = planner.create_global_plan(list(plans))
    return [_piece(planner, item) for item in planner.finish_plan(chosen[rank]).items]


def _piece(planner: DefaultSavePlanner, item: WriteItem) -> Piece:
    about = item.tensor_data
    if about is None:
        raise TypeError(f"{item.index.fqn} is no tensor")
    tensor: Any = planner.resolve_data(item)
    size, offsets = tuple(about.size), tuple(about.chunk.offsets)
    whole = tuple(about.chunk.sizes) == size
    name = item.index.fqn if whole else f"{item.index.fqn}@{','.join(map(str, offsets))}"
    return Piece(name, item.index.fqn, size, offsets, tensor.detach())


class TensorFiles:
    """The tensors in files of one checkpoint. Only headers are read until values are asked for.

    `maps` has those files that are mapped already.
    """

    def __init__(self, folder: Path, names: Iterable[str], maps: Mapping[Path, Mapped]) -> None:
        self._maps = maps
        self._stored: dict[MetadataIndex, Stored] = {}
        self._about = Metadata({})
        for name in sorted(names):
            for piece in pieces_in(folder / name) if is_ours(name) else ():
                self._add(piece)

    def __contains__(self, name: str) -> bool:
        return name in self._about.state_dict_metadata

    def names(self) -> list[str]:
        """The names of all tensors."""
        return list(self._about.state_dict_metadata)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a whole tensor."""
        return tuple(self._whole(name).size)

    def dtype(self, name: str) -> torch.dtype:
        """The number format of a tensor."""
        return self._whole(name).properties.dtype

    def fill(self, targets: Mapping[str, Tensor]) -> None:
        """Fills tensors with the stored ones of their names, which are of the same shapes. Any of them may be cut."""
        planner = DefaultLoadPlanner(flatten_state_dict=False, flatten_sharded_tensors=False)
        planner.set_up_planner(dict(targets), self._about)
        items: dict[Path, list[Any]] = {}
        for item in planner.create_local_plan().items:
            items.setdefault(self._stored[item.storage_index].path, []).append(item)
        for path, wanted in items.items():
            file = self._maps.get(path) or Mapped(path)
            for item in wanted:
                found = file.tensor(self._stored[item.storage_index])
                for dim, (start, length) in enumerate(zip(item.storage_offsets, item.lengths, strict=True)):
                    found = found.narrow(dim, start, length)
                planner.resolve_tensor(item).detach().copy_(found)

    def _whole(self, name: str) -> TensorStorageMetadata:
        found = self._about.state_dict_metadata[name]
        if not isinstance(found, TensorStorageMetadata):
            raise TypeError(f"{name} is no tensor")
        return found

    def _add(self, piece: Stored) -> None:
        kind, size = TensorProperties(dtype=piece.kind), torch.Size(piece.size)
        entry = self._about.state_dict_metadata.setdefault(piece.whole, TensorStorageMetadata(kind, size, []))
        if isinstance(entry, TensorStorageMetadata):
            entry.chunks.append(ChunkStorageMetadata(torch.Size(piece.offsets), torch.Size(piece.shape)))
        self._stored[MetadataIndex(piece.whole, torch.Size(piece.offsets))] = piece
