"""Places of processes that a script starts by itself."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ..spec.findings import FindingsError, finding
from .kinds import DistributedType
from .places import caller_place
from .world import environment


@contextmanager
def patch_environment(**variables: Any) -> Iterator[None]:
    """Within it, environment variables have these values. Names become upper case, values text.

    Afterwards, also after an error, each is what it was.
    """
    given = {name.upper(): str(value) for name, value in variables.items()}
    before = {name: os.environ.get(name) for name in given}
    os.environ.update(given)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


class PrepareForLaunch:
    """A function for `torch.multiprocessing`: called with the number of a process, it gives the process its place.

    How many processes there are and where they meet is in the environment: WORLD_SIZE, MASTER_ADDR and MASTER_PORT; on
    several machines also NPROC, the processes of each, and NODE_RANK. With `distributed_type` `NO` there is no place to
    give. Use `notebook_launcher` where nothing hinders: it chooses the port, and says who failed.

    Args:
        launcher: What is called with the arguments that follow the number.
        distributed_type: What kind of world it is, as a member or word of DistributedType.
        debug: Only False; `debug_launcher` starts processes on the CPU.

    Raises:
        FindingsError: J507, the kind is none, or `debug` is True; when it is called, J501, the world is not described.
    """

    def __init__(
        self,
        launcher: Callable[..., Any],
        distributed_type: DistributedType | str = "NO",
        debug: bool = False,  # noqa: FBT001, FBT002 - the signature that scripts have
    ) -> None:
        known = [kind.value for kind in DistributedType]
        word = str(getattr(distributed_type, "value", distributed_type))
        if word not in known:
            raise _wrong("J507", f"distributed_type: `{word}` is no kind of world", f"use one of {', '.join(known)}")
        if debug:
            raise _wrong("J507", "debug: `True` cannot be honoured", "use `debug_launcher(function, args)`")
        self.launcher = launcher
        self.distributed_type = DistributedType(word)

    def __call__(self, index: int, *args: Any) -> Any:
        """Calls the function as the process of this number on its machine; returns what it returns."""
        if self.distributed_type in (DistributedType.NO, DistributedType.XLA):
            return self.launcher(*args)
        with patch_environment(**_place(index)):
            return self.launcher(*args)


def _place(index: int) -> dict[str, int]:
    told = {name: environment().get(name) for name in ("WORLD_SIZE", "NPROC", "NODE_RANK")}
    wrong = [f"{name}={value}" for name, value in told.items() if value is not None and not value.isdecimal()]
    if wrong or told["WORLD_SIZE"] is None:
        cause = f"{' and '.join(wrong)} is no count" if wrong else "WORLD_SIZE is not set"
        step = "use `with patch_environment(world_size=..., master_addr=..., master_port=...)` around the start"
        raise _wrong("J501", cause, step)
    size, node = int(told["WORLD_SIZE"]), int(told["NODE_RANK"] or 0)
    local = int(told["NPROC"] or size)
    return {"rank": local * node + index, "local_rank": index, "local_world_size": local}


def _wrong(code: str, cause: str, step: str) -> FindingsError:
    return FindingsError((finding(code, cause, place=caller_place(), next_step=step),))
