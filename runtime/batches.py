"""The batch size that a job says against the batches that a training has."""

from __future__ import annotations

from ..spec.findings import FindingsError, finding
from ..spec.resolved import ResolvedSpec
from .live import Position
from .places import caller_place, origin_place


def check_batch(samples: int, position: Position | None, spec: ResolvedSpec | None) -> None:
    """Compares `training.micro_batch` with the loop whose batch is at work.

    Raises:
        FindingsError: J531, its batches have another size, or one that is not known.
    """
    full = None if position is None else position.full
    if full == samples:
        return
    if position is None:
        found, step = "come from no prepared data loader", "prepare the loader"
    elif full is None:
        found, step = "have no fixed size", "leave `training.micro_batch` out"
    else:
        found, step = f"are of {full}", f"give the loader `batch_size={samples}`"
    path = "training.micro_batch"
    said = () if spec is None else (("the job says", origin_place(spec.origin(path))),)
    raise FindingsError(
        (
            finding(
                "J531",
                f"`{path}` says that a process trains on batches of {samples} samples, and those at work {found}",
                place=caller_place(),
                related=said,
                next_step=f"{step}, or change the job" if full is not None else step,
            ),
        )
    )
