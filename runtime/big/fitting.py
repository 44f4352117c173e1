"""Which part of a model goes where, so that everything fits."""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...spec.findings import FindingsError, finding
from ..places import caller_place
from ..saving import bytes_of
from .device_map import DISK
from .named import all_tensors

Name = int | str
#: The words that `device_map` may be, and whether GPUs are filled evenly and the first one is spared.
STRATEGIES = {"auto": (True, False), "balanced": (True, False), "balanced_low_0": (True, True)} | {
    "sequential": (False, False)
}
#: What is left free of a GPU's memory for activations, where nobody says how much may be used.
_USED = 0.9


def infer_auto_device_map(
    model: nn.Module,
    max_memory: Mapping[Name, int | str] | None = None,
    no_split_module_classes: Sequence[str] | str | None = None,
    dtype: torch.dtype | str | None = None,
    special_dtypes: Mapping[str, torch.dtype | str] | None = None,
    verbose: bool = False,  # noqa: FBT001, FBT002 - the signature that scripts have
    clean_result: bool = True,  # noqa: FBT001, FBT002 - the same
    offload_buffers: bool = False,  # noqa: FBT001, FBT002 - the same
    fallback_allocation: bool = False,  # noqa: FBT001, FBT002 - the same
) -> dict[str, Name]:
    """A device map under which a model fits: GPUs are filled one after another, then the memory, then the disk.

    Modules are kept whole where they fit, in the order in which the model has them. If something is offloaded, the
    device that computes keeps room for the largest layer that visits it. A tied tensor is counted once, and a module
    that shares one with an earlier module goes there if what it has beside that fits.

    Args:
        model: The model, which may be on the meta device.
        max_memory: How much each device may hold: `{0: "20GB", "cpu": "60GB"}`; None is what is free.
        no_split_module_classes: Classes whose modules stay in one piece, such as blocks with a residual connection.
        dtype: The type that floating-point tensors will have; None is their own.
        special_dtypes: The types of single tensors, by name.
        verbose: Print where each part goes.
        clean_result: Name a module instead of all its parts where they go to one device.
        offload_buffers: Buffers of offloaded modules are offloaded too and need no room where the model computes.
        fallback_allocation: Go back to earlier devices with parts that fit there.

    Raises:
        FindingsError: J507, a size is none.
    """
    sizes = Sizes(model, dtype, special_dtypes or {})
    whole = (
        {no_split_module_classes} if isinstance(no_split_module_classes, str) else {*(no_split_module_classes or ())}
    )
    budgets = budgets_of(max_memory)
    fit = _Fit(model, sizes, whole, back=fallback_allocation)
    found = fit.into(budgets)
    main = next(iter(budgets))
    if set(found.values()) & _offloads(budgets):
        buffers = (
            0
            if offload_buffers
            else sum(map(sizes.of, {id(item): name for name, item in model.named_buffers()}.values()))
        )
        found = fit.into({**budgets, main: max(0, budgets[main] - sizes.largest(whole) - buffers)})
    if verbose:
        for name, device in found.items():
            print(f"{name or 'the model'}: {sizes.text(name)} on {device}")
    return _merged(model, found) if clean_result else found


class Sizes:
    """How many bytes the tensors of a model will take."""

    def __init__(
        self, model: nn.Module, dtype: torch.dtype | str | None, special: Mapping[str, torch.dtype | str]
    ) -> None:
        self._model = model
        wanted = type_of(dtype)
        self._sizes = {
            name: item.numel() * _width(item, type_of(special.get(name)) or wanted) for name, item in all_tensors(model)
        }
        self._under: dict[str, dict[int, int]] = {}
        for name, item in all_tensors(model):
            for start in starts(name):
                self._under.setdefault(start, {})[id(item)] = self._sizes[name]

    def of(self, name: str) -> int:
        """The bytes of one tensor."""
        return self._sizes[name]

    def under(self, name: str) -> dict[int, int]:
        """The bytes of each tensor of a module, or of the one tensor of that name, by its identity."""
        return self._under.get(name, {})

    def largest(self, whole: set[str]) -> int:
        """The bytes of the largest module that is not split."""
        modules = self._model.named_modules()
        kept = (name for name, module in modules if type(module).__name__ in whole or not any(module.children()))
        return max((sum(self.under(name).values()) for name in kept if name), default=0)

    def text(self, name: str) -> str:
        """The size of a part, to be read."""
        return f"{sum(self.under(name).values()) / 1e6:.1f} MB"


class _Fit:
    """Puts a model's parts into budgets."""

    def __init__(self, model: nn.Module, sizes: Sizes, whole: set[str], *, back: bool) -> None:
        self._model = model
        self._sizes = sizes
        self._whole = whole
        self._back = back

    def into(self, budgets: Mapping[Name, float]) -> dict[str, Name]:
        """The device of each part; parts are modules and single tensors, and cover the model."""
        left, devices = dict(budgets), list(budgets)
        found: dict[str, Name] = {}
        homes: dict[int, Name] = {}
        waiting: deque[tuple[str, nn.Module | Tensor]] = deque([("", self._model)])
        while waiting:
            name, part = waiting.popleft()
            tensors = self._sizes.under(name)
            needed = sum(size for key, size in tensors.items() if key not in homes)
            shared = [homes[key] for key in tensors if key in homes]
            device = next((each for each in [*shared, devices[0]] if needed <= left[each]), None)
            if device is None and self._splits(part):
                waiting.extendleft(reversed(list(_pieces(name, part))))
                continue
            if device is None and self._back:
                device = next(each for each in budgets if needed <= left[each])
            if device is None:
                waiting.appendleft((name, part))
                del devices[0]
                continue
            found[name] = device
            left[device] -= needed
            homes |= {key: device for key in tensors if key not in homes}
        return found

    def _splits(self, part: nn.Module | Tensor) -> bool:
        return isinstance(part, nn.Module) and type(part).__name__ not in self._whole and any(part.children())


def _pieces(name: str, module: Any) -> Iterator[tuple[str, nn.Module | Tensor]]:
    """A module's own tensors, then the modules in it that have any."""
    start = f"{name}." if name else ""
    for last, tensor in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)):
        yield start + last, tensor
    for last, child in module._modules.items():  # noqa: SLF001 - named_children leaves repeated modules out
        if child is not None and any(True for _ in all_tensors(child)):
            yield start + last, child


def _merged(model: nn.Module, found: Mapping[str, Name]) -> dict[str, Name]:
    """The same with modules whose parts all go to one device named once."""
    if "" in found or len(set(found.values())) == 1:
        return {"": next(iter(found.values()), "cpu")}
    out: dict[str, Name] = {}
    inside: dict[str, set[Name]] = {}
    for name, device in found.items():
        for start in starts(name):
            inside.setdefault(start, set()).add(device)

    def visit(name: str, part: nn.Module | Tensor) -> None:
        if name in found or len(inside[name]) == 1:
            out[name] = next(iter(inside[name]))
        elif isinstance(part, nn.Module):
            for each, piece in _pieces(name, part):
                visit(each, piece)

    visit("", model)
    return out


def budgets_of(max_memory: Mapping[Name, int | str] | None) -> dict[Name, float]:
    """The bytes that each device may hold, GPUs first and the disk last.

    Raises:
        FindingsError: J507, a size is none, or a device is none that holds a part of a model.
    """
    if max_memory is None:
        free = {number: int(torch.cuda.mem_get_info(number)[0] * _USED) for number in range(torch.cuda.device_count())}
        max_memory = {**free, "cpu": _memory()}
    wrong = [name for name in max_memory if not (name in ("cpu", DISK) or (isinstance(name, int) and name >= 0))]
    if wrong:
        cause, step = f"max_memory: `{wrong[0]}` is no device", 'use the numbers of GPUs, "cpu" and "disk"'
        raise FindingsError((finding("J507", cause, place=caller_place("max_memory"), next_step=step),))
    given = {name: size if size == 0 else bytes_of(size, "max_memory") for name, size in max_memory.items()}
    order = [*sorted(name for name in given if isinstance(name, int)), *(["cpu"] if "cpu" in given else [])]
    return {**{name: float(given[name]) for name in order}, DISK: float(given.get(DISK, math.inf))}


def balanced(sizes: Sizes, budgets: dict[Name, float], whole: set[str], *, spare_first: bool) -> dict[Name, float]:
    """Budgets under which each GPU is given about as much; the last one keeps its own, for what did not fit."""
    gpus = [name for name in budgets if isinstance(name, int) and budgets[name] > 0]
    if len(gpus) < 2:
        return budgets
    total = float(sum(sizes.under("").values()))
    each = total / (len(gpus) - spare_first) + sizes.largest(whole)
    even = {name: min(budgets[name], each) for name in gpus[:-1]}
    if spare_first:
        others = sum(even[name] for name in gpus[1:-1]) + budgets[gpus[-1]]
        even[gpus[0]] = min(even[gpus[0]], max(0.0, total - others))
    return {**budgets, **even}


def starts(name: str) -> Iterator[str]:
    """A name and the names of all modules that it is in, the model's empty one last."""
    while name:
        yield name
        name = name.rpartition(".")[0]
    yield ""


def type_of(given: torch.dtype | str | None) -> torch.dtype | None:
    """A type by its name or itself.

    Raises:
        FindingsError: J507, there is no such type.
    """
    found = getattr(torch, given.removeprefix("torch."), None) if isinstance(given, str) else given
    if given is not None and not isinstance(found, torch.dtype):
        cause, step = f"dtype: `{given}` is no type of tensors", "use one such as `torch.bfloat16`"
        raise FindingsError((finding("J507", cause, place=caller_place("dtype"), next_step=step),))
    return found


def _offloads(budgets: Mapping[Name, float]) -> set[Name]:
    """The places whose tensors visit another device to be computed with."""
    return {DISK, "cpu"} if any(isinstance(name, int) for name in budgets) else {DISK}


def _width(tensor: Tensor, wanted: torch.dtype | None) -> int:
    return tensor.element_size() if wanted is None or not tensor.is_floating_point() else wanted.itemsize


def _memory() -> int:
    """The bytes of memory that are free, or that there are where the system does not say."""
    table = Path("/proc/meminfo")
    if table.exists():
        lines = dict(line.split(":", 1) for line in table.read_text().splitlines())
        return int(lines["MemAvailable"].split()[0]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
