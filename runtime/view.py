"""Who a process is among all, values of all, and code that only some run: what every face of the runtime shows."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, ParamSpec, TypeVar

import torch

from .collectives import Collectives
from .kinds import DistributedType, kind_of_world
from .processes import Processes
from .world import World

P = ParamSpec("P")
R = TypeVar("R")


class WorldView:
    """A view of a world. It holds nothing of its own, so several views of one world do not disturb each other."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._collectives = Collectives(world)
        self._processes = Processes(world, self._collectives)

    @property
    def device(self) -> torch.device:
        """The device of this process."""
        return self._world.device

    @property
    def num_processes(self) -> int:
        """Processes of the whole job."""
        return self._world.size

    @property
    def process_index(self) -> int:
        """This process among all, from 0."""
        return self._world.rank

    @property
    def local_process_index(self) -> int:
        """This process among those of its machine, from 0."""
        return self._world.local_rank

    @property
    def is_main_process(self) -> bool:
        """Whether this is the first process of the job."""
        return self._world.is_main

    @property
    def is_local_main_process(self) -> bool:
        """Whether this is the first process of its machine."""
        return self._world.is_local_main

    @property
    def is_last_process(self) -> bool:
        """Whether this is the last process of the job."""
        return self._world.is_last

    @property
    def use_distributed(self) -> bool:
        """Whether there are several processes."""
        return self._world.size > 1

    @property
    def distributed_type(self) -> DistributedType:
        """What kind of world this is, in Accelerate's words."""
        return kind_of_world(self._world)

    @property
    def backend(self) -> str | None:
        """What processes talk through, in torch's words; None where there is one process."""
        return self._world.backend

    def wait_for_everyone(self) -> None:
        """Waits until all processes are here."""
        self._collectives.barrier()

    def gather(self, tensor: Any) -> Any:
        """Tensors of all processes one after another in dimension 0, in any nesting; shapes have to agree.

        A 0-d tensor becomes one entry a process, an object the list of all processes' objects. Alone, the value itself.
        """
        return self._collectives.gather(tensor)

    def reduce(self, tensor: Any, reduction: str = "sum", scale: float = 1.0) -> Any:
        """The `sum` or `mean` over all processes of each tensor, in any nesting, times `scale`, in new tensors.

        Raises:
            FindingsError: J507, the reduction is another word; J519, types or shapes differ between the processes.
        """
        return self._collectives.reduce(tensor, reduction, scale)

    def broadcast(self, value: Any, from_process: int = 0) -> Any:
        """The nesting that one process has, tensors and objects, in every process; the others may give None."""
        return self._collectives.broadcast_tensors(value, from_process)

    def pad_across_processes(
        self,
        tensor: Any,
        dim: int = 0,
        pad_index: float = 0,
        pad_first: bool = False,  # noqa: FBT001, FBT002 - the signature that scripts have
    ) -> Any:
        """Tensors filled with `pad_index` to the largest size that a dimension has in any process, in any nesting."""
        return self._collectives.pad(tensor, dim, pad_index, pad_first=pad_first)

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Prints once on every machine; the arguments are those of `print`."""
        self._processes.print(*args, **kwargs)

    def on_main_process(self, function: Callable[P, R]) -> Callable[P, R | None]:
        """Decorates a function that only the first process of the job runs; elsewhere it returns None."""
        return self._processes.only(self.is_main_process, function)

    def on_local_main_process(self, function: Callable[P, R]) -> Callable[P, R | None]:
        """Decorates a function that only the first process of each machine runs; elsewhere it returns None."""
        return self._processes.only(self.is_local_main_process, function)

    def on_last_process(self, function: Callable[P, R]) -> Callable[P, R | None]:
        """Decorates a function that only the last process of the job runs; elsewhere it returns None."""
        return self._processes.only(self.is_last_process, function)

    def on_process(self, function: Callable[..., Any] | None = None, process_index: int | None = None) -> Any:
        """Decorates a function that one process of the job runs; elsewhere it returns None.

        Use it as `@on_process(process_index=1)`.

        Raises:
            FindingsError: J507, no process has this index.
        """
        return self._processes.numbered(function, process_index, self._world.rank, self._world.size)

    def on_local_process(
        self, function: Callable[..., Any] | None = None, local_process_index: int | None = None
    ) -> Any:
        """Decorates a function that one process of each machine runs; elsewhere it returns None.

        Use it as `@on_local_process(local_process_index=1)`.

        Raises:
            FindingsError: J507, no process of this machine has this index.
        """
        world = self._world
        return self._processes.numbered(function, local_process_index, world.local_rank, world.local_size)

    def main_process_first(self) -> AbstractContextManager[None]:
        """Lets the first process of the job through a block before all others. All processes have to enter it."""
        return self._processes.first(self.is_main_process)

    def local_main_process_first(self) -> AbstractContextManager[None]:
        """Lets the first process of each machine through a block before the others. All processes have to enter it."""
        return self._processes.first(self.is_local_main_process)

    def split_between_processes(
        self,
        inputs: Any,
        apply_padding: bool = False,  # noqa: FBT001, FBT002 - the signature that scripts have
    ) -> AbstractContextManager[Any]:
        """The context that gives this process its part of `inputs`, in order; earlier processes get one more.

        `inputs` is a sequence, a tensor or array (cut in dimension 0), a map-style dataset, or a dictionary of them
        that are all of one length; what is given stays as it is. `apply_padding` repeats the last entry so that all
        parts are of one length, as `gather` needs them.

        Raises:
            FindingsError: J504, the inputs are none of these, or lengths in a dictionary differ.
        """
        return self._processes.part(inputs, apply_padding=apply_padding)
