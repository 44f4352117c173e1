"""What runs in the workers of a prepared loader: the user's dataset and initialisation, seeded batch by batch."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

from torch.utils.data import Dataset, get_worker_info

from .seed import reseed
from .streaming import DealtStream


class NumberedReads(Dataset[Any]):
    """A dataset whose indices come with a number, of which all randomness in reading them is a function."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __getitems__(self, numbered: tuple[int, Any]) -> Any:
        """The samples of a batch of indices."""
        number, indices = numbered
        reseed(number)
        together = getattr(self.dataset, "__getitems__", None)
        return together(indices) if together else [self.dataset[index] for index in indices]

    def __getitem__(self, numbered: tuple[int, Any]) -> Any:
        number, index = numbered
        reseed(number)
        return self.dataset[index]


class WorkerStart:
    """The start of a worker, in which `get_worker_info().dataset` is the user's own, as it is without jobc.

    Where SIGTERM asks for a checkpoint, whoever sends it to all processes of a job means none of the workers: their
    process needs them until it has saved, and they end with it.
    """

    def __init__(self, init: Callable[[int], Any] | None, *, spared: bool = False) -> None:
        self._init = init
        self._spared = spared

    def __call__(self, worker: int) -> None:
        if self._spared:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        info = get_worker_info()
        if info is not None and isinstance(info.dataset, NumberedReads | DealtStream):
            object.__setattr__(info, "dataset", info.dataset.dataset)  # torch lets nobody else change it
        if self._init is not None:
            self._init(worker)
