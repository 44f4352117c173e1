"""Whole tensors cut as others are."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.distributed.tensor import distribute_tensor


def cut_alike(value: Tensor, like: Any) -> Tensor:
    """A whole tensor, which every process has, cut as one of its shape is, and kept where that is."""
    mesh = like.device_mesh
    cut = distribute_tensor(value.to(mesh.device_type), mesh, like.placements, src_data_rank=None)
    return cut if cut.device == like.device else cut.to(like.device)
