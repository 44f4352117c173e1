"""A model's tensors from files: one at a time, onto the device that each is for."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..spec.findings import FindingsError, finding
from .operations import extract_model_from_parallel
from .places import caller_place
from .saving import INDEX_ENDING, MODEL_FILE, PICKLED_FILE


class Loaded(NamedTuple):
    """What did not match: names of the model that no file has, and names in files that the model does not have."""

    missing_keys: list[str]
    unexpected_keys: list[str]


def load_checkpoint_in_model(
    model: nn.Module,
    checkpoint: str | Path,
    device_map: Mapping[str, int | str | torch.device] | None = None,
    dtype: torch.dtype | None = None,
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
            the longest start counts. Without it tensors stay where they are.
        dtype: What floating-point tensors become; None keeps the model's own types.
        strict: Names that do not match are an error.

    Raises:
        FindingsError: J504, there is no checkpoint, a shape is another one than the model's, or, with `strict`, names
            do not match; J507, `device_map` names a device that cannot hold tensors or leaves parts of the model out.
    """
    inner = extract_model_from_parallel(model, keep_torch_compile=False)
    targets = _Targets(inner, device_map, dtype)
    targets.place()
    unexpected: list[str] = []
    seen: set[str] = set()
    for file in _files(Path(checkpoint)):
        for name, value, alias in _tensors(file):
            if name not in targets.names:
                unexpected.append(name)
                continue
            # An alias may be a view of the stored tensor, whose memory is filled with it.
            if not alias or targets.fits(name, value):
                targets.fill(name, value)
            seen |= targets.together(name)
    missing = [name for name in targets.names if name not in seen]
    if strict and (missing or unexpected):
        cause = f"`{checkpoint}` does not fit the {type(inner).__name__}: missing {missing}, unexpected {unexpected}"
        raise _refused(cause, "load a checkpoint of this model, or use `strict=False`")
    return Loaded(missing, unexpected)


class _Targets:
    """The tensors of a model that can be filled, by name."""

    def __init__(self, model: nn.Module, device_map: Mapping[str, Any] | None, dtype: torch.dtype | None) -> None:
        self._model = model
        self._map = None if device_map is None else {name: _device(value) for name, value in device_map.items()}
        self._dtype = dtype
        self.names = dict.fromkeys(model.state_dict(keep_vars=True))
        self._owners: dict[int, set[str]] = {}
        for name, value in model.state_dict(keep_vars=True).items():
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
            device, kind = self._device_of(name), self._type_of(value)
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
        if target.is_meta:
            self._replace(name, target, value.to(self._device_of(name) or "cpu", self._type_of(target) or target.dtype))
            return
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
            owner, last = self._owner(each)
            setattr(owner, last, fresh)
        self._owners[id(fresh)] = names

    def _now(self, name: str) -> Any:
        owner, last = self._owner(name)
        return getattr(owner, last, None)

    def _owner(self, name: str) -> tuple[nn.Module, str]:
        path, _, last = name.rpartition(".")
        return self._model.get_submodule(path), last

    def _type_of(self, value: Any) -> torch.dtype | None:
        floats = isinstance(value, Tensor) and value.is_floating_point()
        return self._dtype if floats else None

    def _device_of(self, name: str) -> torch.device | None:
        if self._map is None:
            return None
        fitting = [start for start in self._map if start in ("", name) or name.startswith(f"{start}.")]
        if not fitting:
            cause = f"device_map: no entry is for `{name}`"
            step = 'name a module that it is in, or use `{"": device}` for the whole model'
            raise FindingsError((finding("J507", cause, place=caller_place(), next_step=step),))
        return self._map[max(fitting, key=len)]


def _device(value: Any) -> torch.device:
    try:
        return torch.device("cuda", value) if isinstance(value, int) else torch.device(value)
    except RuntimeError as error:
        cause = f"device_map: `{value}` is no device that holds tensors"
        step = "use a device such as `cpu` or `cuda:0`; weights are not offloaded to a disk"
        raise FindingsError((finding("J507", cause, place=caller_place(), next_step=step),)) from error


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
