"""The world without an Accelerator: for scripts that only want to know who they are."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, Protocol, Self
from weakref import ref

from ..spec.model import AutoHardware, Cpu
from . import world
from .kinds import DistributedType, kind_of_job
from .plugins import InitProcessGroupKwargs
from .settings import Keywords, kind_of, settle
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


class _Configured(Protocol):
    """What an Accelerator says of itself."""

    _keeper: Any

    @property
    def distributed_type(self) -> DistributedType: ...

    @property
    def mixed_precision(self) -> str: ...


#: Finds the Accelerator that was made last, if it is still there.
_newest: Callable[[], _Configured | None] = lambda: None  # noqa: E731 - a weak reference takes its place


def remember(made: _Configured) -> None:
    """Takes note of the Accelerator that was made last."""
    global _newest  # noqa: PLW0603 - Accelerate's scripts ask for the state without the Accelerator
    _newest = ref(made)


def resume_again() -> None:
    """Lets the Accelerator that was made last resume once more: its training failed, and is begun anew."""
    newest = _newest()
    if newest is not None:
        newest._keeper.asked = False  # noqa: SLF001 - nobody else has to know


class AcceleratorState(WorldView):
    """The world, and what an Accelerator was set to; it cannot be changed. `accelerator.state` is one too.

    Made by itself it shows the settings of the newest Accelerator; before there is one, and where a precision is given,
    what the job and the arguments say. It opens the process group where none is open.

    Args:
        mixed_precision: `no`, `bf16` or `fp16`; None leaves it to the newest Accelerator, or the job.
        cpu: True takes the CPU even where there is a GPU.

    Raises:
        FindingsError: As an Accelerator's constructor does.
    """

    def __init__(
        self,
        mixed_precision: str | None = None,
        cpu: bool = False,  # noqa: FBT001, FBT002 - the signature that scripts have
    ) -> None:
        environment = world.environment()
        spec = world.read_spec(environment)
        settings = settle(spec, Keywords(mixed_precision=mixed_precision, cpu=cpu or None))
        found, _ = world.join(environment, settings.hardware, spec)
        newest = _newest() if mixed_precision is None else None
        if newest is None:
            self._show(found, kind_of_job(settings.paradigm, found), kind_of(settings.precision))
        else:
            self._show(found, newest.distributed_type, newest.mixed_precision)

    @classmethod
    def of(cls, owner: _Configured, found: world.World) -> Self:
        """The state of an Accelerator."""
        state = cls.__new__(cls)
        state._show(found, owner.distributed_type, owner.mixed_precision)  # noqa: SLF001 - it is one of this class
        return state

    def _show(self, found: world.World, kind: DistributedType, mixed_precision: str) -> None:
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
