"""The checkpoints of an Accelerator: made with it, and called when it is time."""

from __future__ import annotations

import atexit
import sys
from collections.abc import Callable
from functools import partial
from weakref import ref

from ...spec.findings import FindingsError
from ...spec.resolved import ResolvedSpec
from ..plugins import ProjectConfiguration
from ..preemption import Preemption
from . import policy
from .contents import Training
from .keeper import Keeper
from .schedule import Schedule


def attach(training: Training, project: ProjectConfiguration, spec: ResolvedSpec | None) -> Keeper:
    """The keeper of a training's checkpoints, which saves by itself where the job says so.

    Raises:
        FindingsError: J503, the code contradicts the job.
    """
    settled = policy.settle(spec, project)
    keeper = Keeper(training, settled, spec)
    if settled.resume == "auto":
        training.gradients.begins = keeper.check_asked
    between: list[Callable[[], None]] = []
    if Schedule.needed(settled):
        schedule = Schedule(keeper, settled)
        keeper.after_load, keeper.flush = schedule.begin, schedule.flush
        between.append(schedule.between)
    if settled.on_preemption == "save":
        between.append(Preemption(training.world, partial(_save_and_settle, keeper)).poll)
    if between:
        training.live.between = between[0] if len(between) == 1 else partial(_each, tuple(between))
    if settled.asynchronous:
        known = ref(keeper)
        atexit.register(lambda: _last(known()))
    return keeper


def _save_and_settle(keeper: Keeper) -> None:
    keeper.save(None)
    keeper.settle()


def _each(actions: tuple[Callable[[], None], ...]) -> None:
    for action in actions:
        action()


def _last(keeper: Keeper | None) -> None:
    """What became of a checkpoint that was being written when the process ended, if nobody has asked since."""
    if keeper is None:
        return
    try:
        keeper.settle()
    except FindingsError as error:
        print(error, file=sys.stderr)
