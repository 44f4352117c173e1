"""Whether a process has the device that the job names."""

from __future__ import annotations

import torch

from ..spec.findings import FindingsError, finding
from ..spec.model import Gpu, Hardware


def confirm(hardware: Hardware, device: torch.device) -> None:
    """Looks whether the device of this process is of the model that the job says, where it says one.

    Raises:
        FindingsError: J505, it is another one.
    """
    if not isinstance(hardware, Gpu) or hardware.model is None or device.type != "cuda":
        return
    from ..spec.catalogue import accelerators  # noqa: PLC0415 - few jobs name a model

    found, wanted = torch.cuda.get_device_name(device), accelerators()[hardware.model]
    if not wanted.is_called(found):
        cause = f"the job is for `hardware.model: {hardware.model}`, and this process has a device called `{found}`"
        near = [word for word, item in accelerators().items() if item.is_called(found)]
        step = f"write `hardware.model={near[0]}`" if near else "leave `hardware.model` out"
        raise FindingsError((finding("J505", cause, next_step=f"{step}, or run it on a machine with {wanted.title}"),))
