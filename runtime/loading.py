"""A model's tensors from files: one at a time, onto the device that each is for."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..spec.findings import FindingsError, finding
from .big.device_map import DISK, DeviceMap, Spot
from .big.fitting import type_of
from .big.named import put, tensor_of
from .big.offloading import Folder
from .big.visiting import not_here, spread_of
from .operations import extract_model_from_parallel
from .places import caller_place
from .saving import INDEX_ENDING, MODEL_FILE, PICKLED_FILE


class Loaded(NamedTuple):
    """What did not match: names of the model that no file has, and names in files that the model does not have."""

    missing_keys: list[str]
    unexpected_keys: list[str]


def load_checkpoint_in_model(
    model: nn.Module,
    checkpoint: str | PathLike[str],
    device_map: Mapping[str, int | str | torch.device] | None = None,
    offload_folder: str | PathLike[str] | None = None,
    dtype: torch.dtype | str | None = None,
    offload_state_dict: bool = False,  # noqa: ARG001, FBT001, FBT002 - one tensor is in memory at a time either way
    offload_buffers: bool = False,  # noqa: FBT001, FBT002 - the signature that scripts have
    keep_in_fp32_modules: Sequence[str] | None = None,
    *,
    strict: bool = False,
) -> Loaded:
    """Reads a model that `save_model` wrote, or another checkpoint of its form, into `model`.

    One file is in memory at a time, of safetensors files one tensor. Tied tensors stay tied, and an optimizer of the
    model stays valid, unless a tensor was on the meta device.

    Args:
        model: The plain module, or a prepared one.
        checkpoint: A `.safetensors` or pickled file, an index of several (`.index.json`), or the folder of either.
        device_map: Where modules go, by the start of their names: `{"": "cuda:0"}`, `{"encoder": 0, "head": "cpu"}`;
            the longest start counts. What goes to the `disk` is written to `offload_folder` and is on the meta device
            here, until `dispatch_model` is told of that folder. Without a map tensors stay where they are.
        offload_folder: Where the parts that go to the `disk` are written, each tensor as a file.
        dtype: What floating-point tensors become; None keeps the model's own types.
        offload_state_dict: Either value: never more than one tensor of the checkpoint is in memory on its way.
        offload_buffers: Buffers of parts that go to the `disk` are written there too.
        keep_in_fp32_modules: Modules, by any part of their names, whose tensors become float32 whatever `dtype` says.
        strict: Names that do not match are an error.

    Raises:
        FindingsError: J504, there is no checkpoint, a shape is another one than the model's, or, with `strict`, names
            do not match; J507, `device_map` names a device that cannot hold tensors or leaves parts of the model out.
    """
    inner = extract_model_from_parallel(model, keep_torch_compile=False)
    places = None if device_map is None else DeviceMap(inner, device_map)
    if places is not None and DISK in places.spots and offload_folder is None:
        cause = "offload_folder: a part of the model goes to the disk, and no folder is named"
        raise FindingsError((finding("J507", cause, place=caller_place(), next_step="name a folder"),))
    folder = None if offload_folder is None else Folder(Path(offload_folder), anew=True)
    targets = _Targets(
        inner, places, folder, _Types(type_of(dtype), keep_in_fp32_modules or ()), buffers=offload_buffers
    )
    targets.place()
    unexpected: list[str] = []
    seen: set[str] = set()
    for file in _files(Path(checkpoint)):
        for name, value, alias in _tensors(file):
            if name not in targets.names:
                unexpected.append(name)
                continue
            # An alias may be a view of the stored tensor, whose memory is filled with it.
            if not alias or (name not in seen and targets.fits(name, value)):
                targets.fill(name, value)
            seen |= targets.together(name)
    if folder is not None:
        folder.finish()
    missing = [name for name in targets.names if name not in seen]
    if strict and (missing or unexpected):
        cause = f"`{checkpoint}` does not fit the {type(inner).__name__}: missing {missing}, unexpected {unexpected}"
        raise _refused(cause, "load a checkpoint of this model, or use `strict=False`")
    return Loaded(missing, unexpected)


class _Types(NamedTuple):
    """What floating-point tensors become, and the modules whose tensors become float32 instead."""

    wanted: torch.dtype | None
    single: Sequence[str]

    def of(self, name: str, value: Any) -> torch.dtype | None:
        """What the tensor of a name becomes; None keeps its type."""
        if self.wanted is None or not (isinstance(value, Tensor) and value.is_floating_point()):
            return None
        return torch.float32 if {*self.single} & {*name.split(".")} else self.wanted


class _Targets:
    """The tensors of a model that can be filled, by name."""

    def __init__(
        self, model: nn.Module, places: DeviceMap | None, folder: Folder | None, types: _Types, *, buffers: bool
    ) -> None:
        self._model = model
        self._places = places
        self._folder = folder
        self._types = types
        state = model.state_dict(keep_vars=True)
        self.names = dict.fromkeys(state)
        self._stays = set[str]() if buffers else {name for name, _ in model.named_buffers(remove_duplicate=False)}
        self._owners: dict[int, set[str]] = {}
        for name, value in state.items():
            self._owners.setdefault(id(value), set()).add(name)

    def together(self, name: str) -> set[str]:
        """All names of the tensor that has this name."""
        return self._owners.get(id(self._now(name)), {name})

    def fits(self, name: str, value: Tensor) -> bool:
        """Whether the tensor of a name has this shape."""
        return getattr(self._now(name), "shape", None) == value.shape

    def place(self) -> None:
        """Moves what is there already, in place, so that optimizers and ties are kept."""
        for name in self.names:
            value = self._now(name)
            spot, kind = self._spot(name), self._types.of(name, value)
            device = None if spot in (DISK, torch.device("meta")) else spot
            if isinstance(value, Tensor) and not value.is_meta and (device or kind):
                value.data = value.data.to(device=device, dtype=kind)

    def fill(self, name: str, value: Any) -> None:
        """Gives the tensor of a name its values."""
        target = self._now(name)
        if not isinstance(target, Tensor) or not isinstance(value, Tensor):
            self._model.load_state_dict({name: value}, strict=False)
            return
        if target.shape != value.shape:
            cause = f"`{name}` has shape {tuple(value.shape)} in the checkpoint and {tuple(target.shape)} in the model"
            raise _refused(cause, "load a checkpoint of this model")
        if spread_of(self._model) is not None and target.is_meta:
            raise not_here(name)
        kind = self._types.of(name, target) or target.dtype
        spots = [self._spot(each) for each in self.together(name)]
        device = next((spot for spot in spots if spot != DISK), None)
        if self._folder is not None and DISK in spots and device is None:
            stored = value.to(kind)
            for each in (name, *self.together(name)):
                self._folder.write(each, stored)
            self._replace(name, target, stored.to("meta"))
        elif target.is_meta:
            self._replace(name, target, value.to(device or "cpu", kind))
        else:
            self._copy(target, value)

    def _copy(self, target: Tensor, value: Tensor) -> None:
        mesh = getattr(target, "device_mesh", None)
        if mesh is not None:
            from torch.distributed.tensor import distribute_tensor  # noqa: PLC0415 - only sharded models need it

            value = distribute_tensor(value.to(mesh.device_type), mesh, getattr(target, "placements", None))
        with torch.no_grad():
            target.copy_(value)

    def _replace(self, name: str, former: Tensor, value: Tensor) -> None:
        names = self.together(name)
        fresh = nn.Parameter(value, former.requires_grad) if isinstance(former, nn.Parameter) else value
        for each in names:
            put(self._model, each, fresh)
        self._owners[id(fresh)] = names

    def _now(self, name: str) -> Any:
        return tensor_of(self._model, name)

    def _spot(self, name: str) -> Spot | None:
        """Where a tensor goes; None where it is."""
        found = None if self._places is None else self._places.of(name)
        return torch.device("cpu") if found == DISK and name in self._stays else found


def _files(checkpoint: Path) -> list[Path]:
    """The files of a checkpoint, in order."""
    if checkpoint.is_dir():
        wanted = [name + ending for name in (MODEL_FILE, PICKLED_FILE) for ending in ("", INDEX_ENDING)]
        found = [checkpoint / name for name in wanted if (checkpoint / name).exists()]
        found = found or sorted(checkpoint.glob("*.index.json")) or sorted(checkpoint.glob("*.safetensors"))
        if len(found) != 1:
            names = f"several ({', '.join(path.name for path in found)})" if found else f"none of {', '.join(wanted)}"
            raise _refused(f"the folder `{checkpoint}` holds {names}", "name the file that is meant")
        checkpoint = found[0]
    if not checkpoint.exists():
        raise _refused(f"there is no checkpoint `{checkpoint}`", "name a file or a folder that `save_model` wrote")
    if checkpoint.suffix != ".json":
        return [checkpoint]
    index = json.loads(checkpoint.read_text())
    return [checkpoint.parent / name for name in dict.fromkeys(index["weight_map"].values())]


def _tensors(file: Path) -> Iterator[tuple[str, Any, bool]]:
    """Names and tensors of a file, and whether the name is only another one of a tensor that has been yielded."""
    if file.suffix != ".safetensors":
        for name, value in torch.load(file, map_location="cpu", weights_only=True).items():
            yield name, value, False
        return
    from safetensors import safe_open  # noqa: PLC0415 - only who loads pays for it

    with safe_open(file, "pt") as opened:
        names = set(opened.keys())
        for name in opened.keys():  # noqa: SIM118 - it is no dictionary
            yield name, opened.get_tensor(name), False
        for alias, name in (opened.metadata() or {}).items():
            if name in names:
                yield alias, opened.get_tensor(name), True


def _refused(cause: str, step: str) -> FindingsError:
    return FindingsError((finding("J504", cause, place=caller_place(), next_step=step),))
