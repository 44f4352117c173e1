"""A model spread over devices, the memory and files: its parts visit the device that computes when they are needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...spec.findings import FindingsError, finding
from ..loading import load_checkpoint_in_model
from ..places import caller_place
from .device_map import DISK, DeviceMap, Spot, spot_of
from .fitting import STRATEGIES, Sizes, balanced, budgets_of, infer_auto_device_map
from .named import all_tensors, put, stored_names, tensor_of
from .offloading import Folder
from .visiting import Spread, gathered, spread

_META = torch.device("meta")


def load_checkpoint_and_dispatch(
    model: nn.Module,
    checkpoint: str | PathLike[str],
    device_map: str | Mapping[str, int | str | torch.device] | None = None,
    max_memory: Mapping[int | str, int | str] | None = None,
    no_split_module_classes: Sequence[str] | str | None = None,
    offload_folder: str | PathLike[str] | None = None,
    offload_buffers: bool = False,  # noqa: FBT001, FBT002 - the signature that scripts have
    dtype: torch.dtype | str | None = None,
    offload_state_dict: bool | None = None,  # noqa: ARG001, FBT001 - one tensor is in memory at a time either way
    skip_keys: str | Sequence[str] | None = None,
    preload_module_classes: Sequence[str] | None = None,
    force_hooks: bool = False,  # noqa: FBT001, FBT002 - the same
    strict: bool = False,  # noqa: FBT001, FBT002 - the same
) -> nn.Module:
    """Reads a checkpoint into a model, usually one of `init_empty_weights`, each part where the device map says.

    Args:
        model: The model; it is changed in place and returned.
        checkpoint: A file, an index of several, or the folder of either.
        device_map: As of `dispatch_model`, or a word: `auto` and `balanced` fill the GPUs evenly, `balanced_low_0`
            spares the first, `sequential` fills one after another. None leaves tensors where they are.
        max_memory: As of `infer_auto_device_map`, where `device_map` is a word.
        no_split_module_classes: The same.
        offload_folder: Where the parts that go to the `disk` are written.
        offload_buffers: Buffers of offloaded modules are offloaded too.
        dtype: What floating-point tensors become; None keeps the model's own types.
        offload_state_dict: Either value: never more than one tensor of the checkpoint is in memory on its way.
        skip_keys: As of `dispatch_model`.
        preload_module_classes: The same.
        force_hooks: The same.
        strict: Names that do not match are an error.

    Raises:
        FindingsError: J504, there is no such checkpoint, or it does not fit or leaves tensors without values; J507, an
            argument cannot be honoured.
    """
    if isinstance(device_map, str):
        device_map = _chosen(device_map, model, max_memory, no_split_module_classes, dtype, offload_buffers)
    load_checkpoint_in_model(
        model, checkpoint, device_map, offload_folder, dtype, offload_buffers=offload_buffers, strict=strict
    )
    if device_map is None:
        return model
    return dispatch_model(
        model,
        device_map,
        offload_dir=offload_folder,
        offload_buffers=offload_buffers,
        skip_keys=skip_keys,
        preload_module_classes=preload_module_classes,
        force_hooks=force_hooks,
    )


def dispatch_model(
    model: nn.Module,
    device_map: Mapping[str, int | str | torch.device],
    main_device: int | str | torch.device | None = None,
    state_dict: Mapping[str, Tensor] | None = None,
    offload_dir: str | PathLike[str] | None = None,
    offload_buffers: bool = False,  # noqa: FBT001, FBT002 - the signature that scripts have
    skip_keys: str | Sequence[str] | None = None,
    preload_module_classes: Sequence[str] | None = None,
    force_hooks: bool = False,  # noqa: FBT001, FBT002 - the same
) -> nn.Module:
    """Spreads a model over devices, and makes its forward pass work as if it were on one.

    Inputs of each part are moved to where it is, outputs of the model to where its inputs were. Parts on the `disk`,
    and on the `cpu` where a GPU computes, are on the meta device; their weights visit the device that computes for the
    time of their forward pass and do not train. The model's `state_dict` is whole. `hf_device_map` has the map.

    Args:
        model: The model; it is changed in place and returned.
        device_map: Where modules and tensors go, by the start of their names: the number of a GPU, a device, `disk`, or
            `meta` for what stays without values. The longest start counts.
        main_device: The device that computes with what is offloaded; None is the first GPU of the map, else the CPU.
        state_dict: Values of tensors that are kept in memory, instead of the model's own.
        offload_dir: Where the parts that go to the `disk` are written, or were written before.
        offload_buffers: Buffers of offloaded modules are offloaded too, but for those that no state has.
        skip_keys: Keyword arguments and entries of dictionaries that are not moved between devices.
        preload_module_classes: Classes whose modules get all weights in them at once, because their forward passes use
            weights of inner modules without calling these.
        force_hooks: Move inputs and outputs also where everything is on one device.

    Raises:
        FindingsError: J504, a tensor has no values; J507, an argument cannot be honoured.
    """
    gathered(model)
    places = DeviceMap(model, device_map)
    devices = [spot for spot in places.spots if isinstance(spot, torch.device)]
    computing = next((spot for spot in devices if spot.type not in ("cpu", "meta")), torch.device("cpu"))
    main = computing if main_device is None else spot_of(main_device)
    if not isinstance(main, torch.device) or main.type == "meta":
        raise _wrong("main_device", f"`{main_device}` is no device that computes", "use the number of a GPU, or `cpu`")
    spots = {name: places.of(name) for name, _ in all_tensors(model)}
    model.hf_device_map = dict(device_map)  # pyright: ignore[reportArgumentType] - Accelerate's name, read by scripts
    away = {name for name, spot in spots.items() if spot == DISK or (spot == torch.device("cpu") and spot != main)}
    if len(places.spots) == 1 and not force_hooks and DISK not in places.spots:
        away = set[str]()
    stored, buffers = stored_names(model), {name for name, _ in model.named_buffers(remove_duplicate=False)}
    away &= stored if offload_buffers else stored - buffers
    _place(model, {name: main if spot == DISK else spot for name, spot in spots.items() if name not in away})
    kept = _kept(model, {name: spot for name, spot in spots.items() if name in away}, state_dict or {}, offload_dir)
    if away or len(places.spots) > 1 or force_hooks:
        skipped = [skip_keys] if isinstance(skip_keys, str) else [*(skip_keys or ())]
        spread(model, Spread(main=main, kept=kept, skip=skipped, whole={*(preload_module_classes or ())}))
    return model


def cpu_offload(
    model: nn.Module,
    execution_device: int | str | torch.device | None = None,
    offload_buffers: bool = False,  # noqa: FBT001, FBT002 - the signature that scripts have
    state_dict: Mapping[str, Tensor] | None = None,
    preload_module_classes: Sequence[str] | None = None,
) -> nn.Module:
    """Keeps a model in memory and computes on another device, which holds the weights of one module at a time.

    `execution_device` None is the first GPU if there is one; the rest is as of `dispatch_model`.
    """
    return dispatch_model(
        model,
        {"": "cpu"},
        _computing(execution_device),
        state_dict,
        offload_buffers=offload_buffers,
        preload_module_classes=preload_module_classes,
        force_hooks=True,
    )


def disk_offload(
    model: nn.Module,
    offload_dir: str | PathLike[str],
    execution_device: int | str | torch.device | None = None,
    offload_buffers: bool = False,  # noqa: FBT001, FBT002 - the signature that scripts have
    preload_module_classes: Sequence[str] | None = None,
) -> nn.Module:
    """Keeps a model in files and computes on a device, which holds the weights of one module at a time.

    `execution_device` None is the first GPU if there is one; the rest is as of `dispatch_model`.
    """
    return dispatch_model(
        model,
        {"": DISK},
        _computing(execution_device),
        offload_dir=offload_dir,
        offload_buffers=offload_buffers,
        preload_module_classes=preload_module_classes,
    )


def _computing(device: int | str | torch.device | None) -> int | str | torch.device:
    return device if device is not None else 0 if torch.cuda.is_available() else "cpu"


def _chosen(
    word: str,
    model: nn.Module,
    max_memory: Mapping[int | str, int | str] | None,
    no_split: Sequence[str] | str | None,
    dtype: torch.dtype | str | None,
    offload_buffers: bool,  # noqa: FBT001 - handed on
) -> Mapping[str, int | str]:
    if word not in STRATEGIES:
        raise _wrong("device_map", f"`{word}` is no way to fill devices", f"use {', '.join(STRATEGIES)}, or a mapping")
    evenly, spare_first = STRATEGIES[word]
    budgets: Mapping[int | str, Any] = budgets_of(max_memory)
    if evenly:
        whole = {no_split} if isinstance(no_split, str) else {*(no_split or ())}
        budgets = balanced(Sizes(model, dtype, {}), {**budgets}, whole, spare_first=spare_first)
    found = {name: int(size) for name, size in budgets.items() if name != DISK}
    return infer_auto_device_map(model, found, no_split, dtype, offload_buffers=offload_buffers)


def _place(model: nn.Module, spots: Mapping[str, Spot]) -> None:
    """Moves tensors that stay in the model, in place. One that is to be in several places becomes several."""
    groups: dict[int, dict[Spot, list[str]]] = {}
    for name, spot in spots.items():
        tensor = tensor_of(model, name)
        if tensor.is_meta and spot != _META:
            raise _empty(name)
        groups.setdefault(id(tensor), {}).setdefault(spot, []).append(name)
    for spread_over in groups.values():
        (_, first), *others = spread_over.items()
        original = tensor_of(model, first[0])
        for spot, names in others:
            copied: Any = original.detach().to(spot, copy=True)
            copied = nn.Parameter(copied, original.requires_grad) if isinstance(original, nn.Parameter) else copied
            for name in names:
                put(model, name, copied)
        if spots[first[0]] == _META:
            for name in first:
                put(model, name, _placeholder(original))
        else:
            original.data = original.data.to(spots[first[0]])


def _kept(
    model: nn.Module,
    spots: Mapping[str, Spot],
    state: Mapping[str, Tensor],
    folder: str | PathLike[str] | None,
) -> dict[str, Tensor]:
    """The values of offloaded tensors, in memory or mapped from files; placeholders take their places in the model."""
    written = None if folder is None else Folder(Path(folder))
    if written is None and DISK in spots.values():
        raise _wrong("offload_dir", "a part of the model goes to the disk, and no folder is named", "name a folder")
    kept: dict[str, Tensor] = {}
    # With the tensors that they are for, so that no other tensor gets the identity of one.
    memory: dict[int, tuple[Tensor, Tensor]] = {}
    placeholders: dict[int, tuple[Tensor, Tensor]] = {}
    for name, spot in spots.items():
        tensor = tensor_of(model, name)
        value = state.get(name, tensor)
        if spot == DISK and written is not None:
            if not value.is_meta:
                written.write(name, value)
            value = written.read(name, tensor)
        elif value.is_meta:
            raise _empty(name)
        else:
            value = memory.setdefault(id(value), (value, value.detach().to("cpu")))[1]
        kept[name] = value
        put(model, name, placeholders.setdefault(id(tensor), (tensor, _placeholder(tensor)))[1])
    if written is not None:
        written.finish()
    return kept


def _placeholder(tensor: Tensor) -> Tensor:
    empty = tensor.detach().to(_META)
    return nn.Parameter(empty, requires_grad=False) if isinstance(tensor, nn.Parameter) else empty


def _empty(name: str) -> FindingsError:
    cause = f"`{name}` is on the meta device and has no values"
    step = "load a checkpoint that has it, or make the model without `include_buffers`; `meta` in the map leaves it so"
    return FindingsError((finding("J504", cause, place=caller_place(), next_step=step),))


def _wrong(keyword: str, cause: str, step: str) -> FindingsError:
    return FindingsError((finding("J507", f"{keyword}: {cause}", place=caller_place(keyword), next_step=step),))
