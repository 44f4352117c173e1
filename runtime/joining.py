"""Data of uneven length: processes that have more batches than others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from torch import nn

from .prepare import Prepared
from .strategies.base import Strategy


@contextmanager
def uneven(strategy: Strategy, prepared: Prepared, models: Sequence[nn.Module], *, even: bool | None) -> Iterator[None]:
    """Within it a process whose data has ended takes part in what the others still have to do together.

    `even` is whether the prepared loaders of data read by index fill the last batches meanwhile; None leaves it.

    Raises:
        FindingsError: J510, the strategy cannot do that.
    """
    with ExitStack() as stack:
        stack.enter_context(strategy.join(models))
        if even is not None:
            for loader in prepared.loaders:
                stack.enter_context(loader.dealt(even=even))
        yield
