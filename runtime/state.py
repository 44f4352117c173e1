"""The world without an Accelerator: for scripts that only want to know who they are."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from ..spec.model import AutoHardware, Cpu
from . import world
from .kinds import DistributedType
from .plugins import InitProcessGroupKwargs
from .view import WorldView


class PartialState(WorldView):
    """This process's world, with the helpers for code that only some processes run.

    It opens the process group where none is open. Several of them, and an Accelerator beside them, are views of the
    same processes; none changes another.

    Args:
        cpu: True takes the CPU even where there is a GPU.
        backend: What processes talk through, in torch's words; None takes nccl on GPUs and gloo on CPUs.
        timeout: How long a collective may wait for a process; None takes torch's default.

    Raises:
        FindingsError: J501 the world is not that of the job, J502 the job's document cannot be read, J505 there is no
            such device, J507 the backend cannot talk between these devices.
    """

    def __init__(
        self,
        cpu: bool = False,  # noqa: FBT001, FBT002 - the signature that scripts have
        *,
        backend: str | None = None,
        timeout: timedelta | None = None,
    ) -> None:
        environment = world.environment()
        spec = world.read_spec(environment)
        hardware = AutoHardware() if spec is None else spec.job.hardware
        options = InitProcessGroupKwargs(backend=backend, timeout=timeout)
        found, self._group = world.join(environment, Cpu() if cpu else hardware, spec, options)
        super().__init__(found)

    def destroy_process_group(self) -> None:
        """Closes the process group if this object opened it."""
        self._group.close()

    def __repr__(self) -> str:
        return describe(self)


class AcceleratorState(WorldView):
    """What `accelerator.state` shows: the world, and what the Accelerator was set to. It cannot be changed."""

    def __init__(self, found: world.World, kind: DistributedType, mixed_precision: str) -> None:
        super().__init__(found)
        self._kind = kind
        self._mixed_precision = mixed_precision

    @property
    def distributed_type(self) -> DistributedType:
        """How processes are spread, in Accelerate's words."""
        return self._kind

    @property
    def mixed_precision(self) -> str:
        """The number format: `no`, `bf16` or `fp16`."""
        return self._mixed_precision

    def __repr__(self) -> str:
        return f"{describe(self)}\nMixed precision type: {self._mixed_precision}"


def describe(view: WorldView) -> str:
    """A view as several lines of text, without a trailing newline."""
    lines: dict[str, Any] = {
        "Distributed environment": f"{view.distributed_type}  Backend: {view.backend}",
        "Num processes": view.num_processes,
        "Process index": view.process_index,
        "Local process index": view.local_process_index,
        "Device": view.device,
    }
    return "\n".join(f"{name}: {value}" for name, value in lines.items())
