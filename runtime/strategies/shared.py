"""What strategies above one process have in common."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from torch import nn
from torch.optim import Optimizer

from ...spec.findings import Finding, finding


def strays(models: Sequence[nn.Module], optimizers: Sequence[Optimizer], known: Collection[int]) -> Iterator[Finding]:
    """Models and optimizers whose gradients would stay in their process, each process training a model of its own.

    `known` are the identities of the parameters of prepared models.
    """
    step = "give models and optimizers to `prepare`; loose parameters can live in a module"
    if not models:
        cause = "`backward` is called and no model was prepared, so that gradients would stay in their process"
        yield finding("J509", cause, next_step=step)
        return
    for optimizer in optimizers:
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        missing = sum(id(parameter) not in known for parameter in parameters)
        if missing:
            cause = (
                f"a {type(optimizer).__name__} trains {missing} of its {len(parameters)} parameters apart: they"
                " belong to no prepared model, and their gradients would stay in their process"
            )
            yield finding("J509", cause, next_step=step)
