"""Where the parts of a model go, by the start of their names: `{"encoder": 0, "head": "cpu", "tail": "disk"}`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from ...spec.findings import FindingsError, did_you_mean, finding
from ..places import caller_place
from .named import all_tensors

#: The place of tensors that stay in files until they are needed.
DISK = "disk"
Spot = torch.device | str


class DeviceMap:
    """A device map that fits a model.

    Raises:
        FindingsError: J507, it names a part that the model does not have, or what is no device; all at once.
    """

    def __init__(self, model: nn.Module, given: Mapping[str, Any]) -> None:
        known = {"", *(name for name, _ in model.named_modules(remove_duplicate=False))}
        known |= {name for name, _ in all_tensors(model)}
        wrong = [_wrong(f"there is no part `{name}` in the model", did_you_mean(name, sorted(known)))
                 for name in given if name not in known]  # fmt: skip
        self._spots: dict[str, Spot] = {}
        for name, value in given.items():
            try:
                self._spots[name] = spot_of(value)
            except FindingsError as error:
                wrong += error.findings
        if wrong:
            raise FindingsError(tuple(wrong))

    @property
    def spots(self) -> list[Spot]:
        """Every place that it names, each once, in its order."""
        return list(dict.fromkeys(self._spots.values()))

    def get(self, name: str) -> Spot | None:
        """Where the part of this name goes; None if no entry is for it."""
        while name not in self._spots:
            if not name:
                return None
            name = name.rpartition(".")[0]
        return self._spots[name]

    def of(self, name: str) -> Spot:
        """Where the tensor of this name goes.

        Raises:
            FindingsError: J507, no entry is for it.
        """
        found = self.get(name)
        if found is None:
            step = 'name a module that it is in, or use `{"": device}` for the whole model'
            raise FindingsError((_wrong(f"no entry is for `{name}`", step),))
        return found


def spot_of(value: Any) -> Spot:
    """A device by its number, its name or itself, or the disk.

    Raises:
        FindingsError: J507, it is none.
    """
    if value == DISK:
        return DISK
    try:
        device = torch.device("cuda", value) if isinstance(value, int) else torch.device(value)
    except (RuntimeError, TypeError) as error:
        step = "use the number of a GPU, a device such as `cpu` or `cuda:0`, or `disk`"
        raise FindingsError((_wrong(f"`{value}` is no device that holds tensors", step),)) from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise FindingsError((_wrong(f"`{value}` is not there: torch finds {count or 'no'} GPUs", "use `cpu`"),))
    return torch.device("cuda", torch.cuda.current_device()) if device == torch.device("cuda") else device


def _wrong(cause: str, step: str | None) -> Any:
    return finding("J507", f"device_map: {cause}", place=caller_place(), next_step=step or "name a module of the model")
