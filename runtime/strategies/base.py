"""What a strategy is: how models are spread over the processes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from torch import Tensor, nn
from torch.optim import Optimizer

from ...spec.findings import Finding


class Strategy(Protocol):
    """How models are spread over the processes. Chosen once in the table of `strategies`; nobody asks for its name."""

    def place(self, model: nn.Module) -> nn.Module:
        """The model on its device. It is called before `wrap`, unless the user places models himself."""
        ...

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model ready for training."""
        ...

    def adopt(self, optimizer: Optimizer) -> None:
        """Gives an optimizer, with its state, the parameters that took the place of those it was made from."""
        ...

    def strays(self, models: Sequence[nn.Module], optimizers: Sequence[Optimizer]) -> Iterator[Finding]:
        """What is wrong about these models and optimizers together, asked once before the first backward pass."""
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

    def scale_gradients(self, models: Sequence[nn.Module], factor: float) -> None:
        """Multiplies every gradient of the models, also those that are not averaged over the processes yet."""
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

    def layout(self) -> tuple[str, dict[str, int]]:
        """The document's word for the strategy, and by what degrees it cuts or repeats models, by name; to be shown."""
        ...

    @property
    def own_gradients(self) -> bool:
        """Whether `gradients` are those of this process alone, and not the mean over all."""
        ...

    def gradients(self, model: nn.Module) -> dict[str, Tensor]:
        """Gradients so far by the names of the user's own module, cut as parameters are; all processes call it."""
        ...

    def put_gradients(self, model: nn.Module, gradients: Mapping[str, Tensor]) -> None:
        """Makes these, of the form that `gradients` has, the gradients so far."""
        ...

    def learned(self, model: nn.Module) -> dict[str, Any]:
        """What a wrapped model's steps so far decided for the next ones, as plain data, the same in all processes."""
        ...

    def relearn(self, model: nn.Module, learned: dict[str, Any]) -> None:
        """Makes a model go on as one of which `learned` says this. It leaves no gradients."""
        ...

    def join(self, models: Sequence[nn.Module]) -> AbstractContextManager[object]:
        """Within it, a process whose data has ended takes part in what the others still have to do together.

        Raises:
            FindingsError: J510, the strategy cannot do that.
        """
        ...
