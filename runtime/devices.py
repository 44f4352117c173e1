"""Whether a process has the device that the job names."""

from __future__ import annotations

import torch

from ..spec.findings import Finding, FindingsError, finding
from ..spec.model import Gpu, Hardware


def confirm(hardware: Hardware, device: torch.device) -> None:
    """Looks whether the device of this process is of the model that the job says, where it says one.

    Raises:
        FindingsError: J505, it is another one.
    """
    if not isinstance(hardware, Gpu) or hardware.model is None or device.type != "cuda":
        return
    refused = mistaken(hardware.model, torch.cuda.get_device_name(device))
    if refused is not None:
        raise FindingsError((refused,))


def mistaken(model: str, device: str) -> Finding | None:
    """J505 where a device of this name is not of the model; None where it is."""
    from ..spec.catalogue import accelerators  # noqa: PLC0415 - few jobs name a model

    known = accelerators()
    if known[model].is_called(device):
        return None
    cause = f"the job is for `hardware.model: {model}`, and this process has a device called `{device}`"
    near = [word for word, item in known.items() if item.is_called(device)]
    step = f"write `hardware.model={near[0]}`" if near else "leave `hardware.model` out"
    return finding("J505", cause, next_step=f"{step}, or run it on a machine with {known[model].title}")
