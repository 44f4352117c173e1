"""What a strategy is: how models are spread over the processes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from torch import Tensor, nn
from torch.optim import Optimizer


class Strategy(Protocol):
    """How models are spread over the processes. Chosen once in the table of `strategies`; nobody asks for its name."""

    def place(self, model: nn.Module) -> nn.Module:
        """The model on its device. It is called before `wrap`, unless the user places models himself."""
        ...

    def wrap(self, model: nn.Module, optimizers: Sequence[Optimizer]) -> nn.Module:
        """The model ready for training.

        `optimizers` came in the same call of `prepare`; a strategy that replaces parameters replaces them there too.
        """
        ...

    def unwrap(self, model: nn.Module) -> nn.Module:
        """The user's own module inside a wrapped one; any other module is itself."""
        ...

    def backward(self, loss: Tensor, **options: Any) -> None:
        """Computes gradients of the loss, in all processes together."""
        ...

    def no_sync(self, model: nn.Module) -> AbstractContextManager[object]:
        """Within it, forward and backward passes leave gradients in their process."""
        ...

    def clip_norm(self, parameters: Iterable[Tensor], max_norm: float, norm_type: float) -> Tensor:
        """Scales gradients so that their norm over all processes is at most `max_norm`; the norm before, 0-d."""
        ...

    def clip_value(self, parameters: Iterable[Tensor], clip_value: float) -> None:
        """Clamps every gradient to plus and minus `clip_value`."""
        ...

    def whole_state(self, model: nn.Module) -> dict[str, Any]:
        """The state of the user's own module, whole, at least on the main process; all processes call it together."""
        ...
