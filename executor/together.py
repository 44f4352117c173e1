"""Runs that a scheduler takes in one piece: each has its folder and its record, and one command submits them all."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from ..compiler.plan import Array, LaunchPlan, PackFiles, Step, WriteFile
from . import record as records
from .family import Family
from .guardian import Guardian
from .handover import submitted
from .interrupts import Interrupts
from .model import Outcome, Settings
from .placeholders import Values, absolute
from .procfs import subreaper
from .record import Record
from .run import Performance, conclude, keep, may_begin, screen_of
from .supervise import Ended


class _Begun(NamedTuple):
    """A run of an array that has its folder."""

    plan: LaunchPlan
    settings: Settings
    run_dir: Path
    record: Record


def submit_together(array: Array, runs: Sequence[tuple[LaunchPlan, Settings]]) -> tuple[Outcome, ...]:
    """Submit the runs of an array, in the order of its plans; they go on without us.

    Raises:
        FindingsError: as `execute`, for any of them. Nothing has been submitted then.
    """
    with Interrupts() as interrupts:
        earlier, *_ = [may_begin(plan, settings) for plan, settings in runs]
        begun: list[_Begun] = []
        try:
            for plan, settings in runs:
                begun.append(_begin(plan, settings))
            for one in begun:
                files = [step for step in one.plan.submit if isinstance(step, WriteFile | PackFiles)]
                _perform(one, _values(one), files, interrupts, Family(None))
            first = begun[0]
            values = _values(first, earlier, [one.run_dir for one in begun])
            with subreaper(), Guardian(first.run_dir, first.settings.grace) as guardian:
                ended = _perform(first, values, array.submit, interrupts, Family(first.run_dir, guardian))
        except BaseException:
            for one in begun:
                with suppress(OSError):  # the disk that could not take a step's file may not take this one either
                    records.save(records.end(one.record, "failed", 2, None), one.run_dir)
            raise
        if ended != Ended():
            return _concluded(ended, begun, interrupts)
        for place, one in enumerate(begun):
            known = {**values.captured, "job_id": f"{values.captured['job_id']}_{place}"}
            submitted(one.record, known, one.run_dir)
    return tuple(Outcome(run_id=one.run_dir.name, run_dir=one.run_dir, exit_code=0) for one in begun)


def _begin(plan: LaunchPlan, settings: Settings) -> _Begun:
    run_dir, record = records.create(
        absolute(settings.runs_dir),
        plan,
        python=settings.python,
        project_dir=absolute(settings.project_dir),
        argv=settings.argv,
        asked=settings.asked,
    )
    if settings.begun is not None:
        settings.begun(run_dir)
    return _Begun(plan, settings, run_dir, record)


def _values(one: _Begun, earlier: Mapping[str, str] | None = None, elements: Sequence[Path] = ()) -> Values:
    project_dir = absolute(one.settings.project_dir)
    python, env = one.settings.python, one.settings.env
    return Values(one.plan, one.run_dir, project_dir, python, os.getpid(), env, earlier=earlier, elements=elements)


def _perform(one: _Begun, values: Values, steps: Sequence[Step], interrupts: Interrupts, family: Family) -> Ended:
    return Performance(
        plan=one.plan,
        values=values,
        settings=one.settings,
        run_dir=one.run_dir,
        screen=screen_of(one.settings, interrupts, one.plan.output.prefix),
        interrupts=interrupts,
        family=family,
    ).perform(steps)


def _concluded(ended: Ended, begun: Sequence[_Begun], interrupts: Interrupts) -> tuple[Outcome, ...]:
    """What kept them all from being submitted is said once."""
    first, *others = begun
    screen = screen_of(first.settings, interrupts, first.plan.output.prefix)
    said = conclude(ended, first.record, first.run_dir, screen)
    return (said, *(keep(ended, one.record, one.run_dir, screen) for one in others))
