"""Loaders without their first batches, for a script that goes on in the middle of an epoch."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from numbers import Integral
from typing import Any

from torch.utils.data import DataLoader

from ..spec.findings import FindingsError, finding
from .data import PreparedLoader
from .places import caller_place


class SkippingLoader(DataLoader[Any]):
    """Another loader's epochs without their first batches. It counts epochs with that loader, not beside it.

    `DataLoader.__init__` is not called, for there is nothing of its own to set up.
    """

    def __init__(self, loader: DataLoader[Any], first: int) -> None:
        self.loader = loader
        self.first = first

    def __iter__(self) -> Iterator[Any]:  # pyright: ignore[reportIncompatibleMethodOverride]
        if isinstance(self.loader, PreparedLoader):
            return self.loader.from_batch(self.first)
        return islice(iter(self.loader), self.first, None)

    def __len__(self) -> int:
        return max(0, len(self.loader) - self.first)

    def __getattr__(self, name: str) -> Any:
        if name == "loader":  # an object that is being copied or unpickled and has nothing yet
            raise AttributeError(name)
        return getattr(self.loader, name)


def skip_first_batches(dataloader: DataLoader[Any], num_batches: int = 0) -> DataLoader[Any]:
    """A loader that leaves the first `num_batches` of every epoch out; the loader given stays as it is.

    Of a prepared loader these are the batches of this process, and the two count their epochs together. Prepare it
    before, not after. The number counts from the start of the epoch, also when the loader was restored in the middle of
    one; that place is then taken no more.

    Raises:
        FindingsError: J504, this is no data loader; J507, the number is negative or not whole.
    """
    if not isinstance(dataloader, DataLoader):
        cause = f"`skip_first_batches` was given a `{type(dataloader).__name__}`"
        step = "give it a torch.utils.data.DataLoader"
        raise FindingsError((finding("J504", cause, place=caller_place(), next_step=step),))
    if not isinstance(num_batches, Integral) or num_batches < 0:
        cause = f"num_batches: `{num_batches}` is no number of batches"
        raise FindingsError((finding("J507", cause, place=caller_place(), next_step="use 0 or more"),))
    return SkippingLoader(dataloader, num_batches)
