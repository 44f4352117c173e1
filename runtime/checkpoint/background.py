"""Writing while the training goes on: one copy of what is written, and one thread that writes it."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist

from ...spec.findings import Finding, FindingsError, finding
from ..world import World
from .tensors import Piece

_KEPT = "those that are there stay as they are"


class Staging:
    """The copy of pieces that a thread writes from. Its memory is kept for the next one."""

    def __init__(self) -> None:
        self._buffers: dict[str, Tensor] = {}

    def copy(self, pieces: list[Piece]) -> list[Piece]:
        """The same pieces with tensors of their own, on the CPU."""
        kept, self._buffers = self._buffers, {}
        for piece in pieces:
            buffer = kept.get(piece.name)
            if buffer is None or buffer.shape != piece.tensor.shape or buffer.dtype != piece.tensor.dtype:
                pinned = piece.tensor.device.type == "cuda"
                buffer = torch.empty(piece.tensor.shape, dtype=piece.tensor.dtype, pin_memory=pinned)
            self._buffers[piece.name] = buffer.copy_(piece.tensor, non_blocking=True)
        if any(piece.tensor.device.type == "cuda" for piece in pieces):
            torch.cuda.synchronize()
        return [piece._replace(tensor=self._buffers[piece.name]) for piece in pieces]


class Background:
    """A thread that writes one checkpoint at a time. A process ends when its thread has."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._group: Any = None
        self._thread: threading.Thread | None = None
        self._removing: threading.Thread | None = None
        self._failed: tuple[Finding, ...] = ()
        self.staging = Staging()

    @property
    def busy(self) -> bool:
        """Whether a checkpoint is being written."""
        return self._thread is not None and self._thread.is_alive()

    def connect(self) -> None:
        """Opens the group that the threads of all processes talk through, apart from the training; all call it."""
        if self._group is None and self._world.size > 1:
            self._group = dist.new_group(backend="gloo")

    def everyone(self, value: Any) -> list[Any]:
        """The objects of all processes, in order of rank; for the thread.

        Raises:
            FindingsError: J524, another process is gone.
        """
        if self._group is None:
            return [value]
        found: list[Any] = [None] * self._world.size
        try:
            dist.all_gather_object(found, value, group=self._group)
        except RuntimeError as error:
            cause = "a checkpoint could not be written: another process ended, or was ended, before its part was there"
            raise FindingsError((finding("J524", cause, next_step=_KEPT),)) from error
        return found

    def start(self, work: Callable[[], object]) -> None:
        """Lets the thread do this."""
        self._thread = threading.Thread(target=self._run, args=(work,), name="jobc-checkpoint")
        self._thread.start()

    def remove(self, paths: list[Path]) -> None:
        """Removes folders while something else is done; it takes long where they are large."""
        self._removing = threading.Thread(target=_remove, args=(paths,), name="jobc-removal")
        self._removing.start()

    def wait(self) -> None:
        """Waits until nothing is being written or removed."""
        for thread in (self._thread, self._removing):
            if thread is not None:
                thread.join()

    def failed(self) -> tuple[Finding, ...]:
        """What kept the last checkpoint from being written, told once."""
        found, self._failed = self._failed, ()
        return found

    def _run(self, work: Callable[[], object]) -> None:
        try:
            work()
        except FindingsError as error:
            self._failed = error.findings
        except Exception as error:  # noqa: BLE001 - the training's thread says it; a peer may be gone
            cause = f"a checkpoint could not be written: {type(error).__name__}: {str(error).partition(chr(10))[0]}"
            self._failed = (finding("J524", cause, next_step=_KEPT),)


def _remove(paths: list[Path]) -> None:
    for path in paths:
        shutil.rmtree(path, ignore_errors=True)  # what is left of it the next save removes
