"""`jobc run -m`: every plan of a sweep, some at a time or together, and a table at the end."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click

from .detach import detached
from .runs import first_code, home, in_words, seconds, verb

if TYPE_CHECKING:
    from ..compiler.plan import Array, LaunchPlan
    from ..executor import Asked, Outcome, Record
    from ..executor.handover import Asking

_TICK = 0.1  # seconds between two looks at the runs
_SIGNALLED = 128  # and the number of a signal is the exit code of what it ended
_BETWEEN = 0.5  # seconds between two questions to a scheduler, whatever the number of runs
_COLORS = {"succeeded": "green", "failed": "red", "lost": "red", "stopped": "yellow"}


@dataclass(frozen=True)
class One:
    """A plan of a sweep: the overrides in which it differs from the others, the plan, and what it was made from."""

    title: str
    plan: LaunchPlan
    project_dir: Path
    asked: Asked


class _AskedToEndError(BaseException):
    """A signal that asks for the end of all, so that no handler of errors takes it for one."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def _code_of(error: KeyboardInterrupt | _AskedToEndError) -> int:
    return _SIGNALLED + (error.number if isinstance(error, _AskedToEndError) else signal.SIGINT)


def _asked_to_end(number: int, _frame: FrameType | None) -> None:
    raise _AskedToEndError(number)


@dataclass
class Sweep:
    """Runs plans, at most `jobs` at a time, each in a session of its own with its output in its folder.

    Those of `arrays` are submitted together, before the others, and are their scheduler's from then on.
    """

    plans: tuple[One, ...]
    jobs: int
    arrays: tuple[Array, ...] = ()
    runs: dict[int, str] = field(default_factory=dict[int, str])
    ended: dict[int, Record] = field(default_factory=dict[int, "Record"])
    _asked: dict[int, Asking] = field(default_factory=dict[int, "Asking"])
    _next: float = 0.0

    def carry_out(self) -> int:
        """Run all. The exit code is 0, that of the first that failed, or 128 and the number of a signal that ended all.

        Raises:
            FindingsError: a plan cannot be started; those that run are ended then.
        """
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, _asked_to_end)
        try:
            for array in self.arrays:
                self._submit(array)
            waiting = [index for index in range(len(self.plans)) if index not in self.runs]
            while waiting or len(self.ended) < len(self.runs):
                while waiting and len(self._here()) < self.jobs:
                    self._start(waiting.pop(0))
                time.sleep(_TICK)
                self._look()
        except (KeyboardInterrupt, _AskedToEndError) as error:
            self._stop(self._here())
            self._leave()
            click.echo(self._table(), err=True)
            return _code_of(error)
        except BaseException:
            self._stop(self._going())
            raise
        click.echo(self._table())
        return first_code(self.ended[index] for index in sorted(self.ended))

    def hand_over(self) -> int:
        """Submit all to what carries them out, and say their ids, in the order of their plans.

        The exit code is 0, that of the first that was not taken, or 128 and the number of a signal that ended all.

        Raises:
            FindingsError: a plan cannot be submitted; those that were are ended then.
        """
        from .api import execute_plan

        try:
            for array in self.arrays:
                self._submit(array)
            for index, one in enumerate(self.plans):
                if index not in self.runs:
                    outcome = execute_plan(one.plan, one.project_dir, asked=one.asked, wait=False)
                    self._note({index: outcome})
        except (KeyboardInterrupt, _AskedToEndError) as error:
            self._stop(self._going())
            return _code_of(error)
        except BaseException:
            self._stop(self._going())
            raise
        for _, run in sorted(self.runs.items()):
            click.echo(run)
        return first_code(self.ended[index] for index in sorted(self.ended))

    def _submit(self, array: Array) -> None:
        """Hand over runs that a scheduler takes in one piece."""
        from ..executor.handover import Asking
        from ..executor.together import submit_together
        from .api import settings_of

        chosen = [self.plans[index] for index in array.plans]
        runs = [(one.plan, settings_of(one.project_dir, asked=one.asked)) for one in chosen]
        outcomes = dict(zip(array.plans, submit_together(array, runs), strict=True))
        for index, outcome in outcomes.items():
            said = partial(self._said, index)
            self._asked[index] = Asking(self.plans[index].plan, outcome.run_dir, os.environ, said)
        self._note(outcomes)

    def _note(self, outcomes: dict[int, Outcome]) -> None:
        """Note runs that were to be handed over, and those of them that were not taken."""
        from ..executor.registry import record_of

        for index, outcome in outcomes.items():
            self.runs[index] = outcome.run_id
            self._say(index, f"{'submitted' if outcome.exit_code == 0 else 'not taken'}   {outcome.run_id}")
            if outcome.exit_code:
                self.ended[index] = record_of(outcome.run_dir)
        for outcome in outcomes.values():
            if outcome.exit_code > _SIGNALLED and outcome.failure is None:
                raise _AskedToEndError(outcome.exit_code - _SIGNALLED)

    def _start(self, index: int) -> None:
        from .api import execute_plan

        one = self.plans[index]
        run = detached(lambda begun: execute_plan(one.plan, one.project_dir, asked=one.asked, begun=begun))
        self.runs[index] = run
        self._say(index, f"starts   {run}")

    def _going(self) -> list[int]:
        return [index for index in self.runs if index not in self.ended]

    def _here(self) -> list[int]:
        """The runs of this machine that go on."""
        return [index for index in self._going() if index not in self._asked]

    def _look(self) -> None:
        from ..executor.registry import record_of

        for index in self._here():
            self._see(index, record_of(home() / self.runs[index]))
        going = [index for index in self._going() if index in self._asked]
        if going and time.monotonic() >= self._next:
            index = min(going, key=lambda one: self._asked[one].due)
            self._asked[index]()
            self._next = time.monotonic() + _BETWEEN
            record = self._asked[index].record
            if record is not None:
                self._see(index, record)

    def _see(self, index: int, record: Record) -> None:
        """Note a run that has ended."""
        state = record.state
        if state in {"running", "submitted"}:
            return
        self.ended[index] = record
        word = click.style(state, fg=_COLORS.get(state)) if sys.stderr.isatty() else state
        code = f", exit code {record.exit_code}   (jobc logs {record.run_id})" if record.exit_code else ""
        self._say(index, f"{word} after {in_words(seconds(record.started, record.ended))}{code}")

    def _stop(self, going: list[int]) -> None:
        """End runs, and wait for it."""
        from .wait import until_ended

        for index in going:
            verb(self.plans[index].plan, home() / self.runs[index], self.plans[index].plan.stop)
        for index in going:
            self.ended[index] = until_ended(home() / self.runs[index])

    def _leave(self) -> None:
        """Say which runs go on, as their scheduler has them."""
        going = len(self._going())
        if going:
            many = f"{going} runs go on" if going > 1 else "a run goes on"
            click.echo(f"jobc: {many}; `jobc status RUN` asks for one, `jobc stop RUN` ends it", err=True)

    def _said(self, index: int, words: str) -> None:
        """What a scheduler says of a run, unless that is how it has ended, which is said with more."""
        record = self._asked[index].record
        if record is None or record.state == "submitted":
            self._say(index, words.removeprefix("jobc: ").rstrip())

    def _say(self, index: int, text: str) -> None:
        click.echo(f"jobc: {index + 1} of {len(self.plans)}   {self.plans[index].title}   {text}", err=True)

    def _table(self) -> str:
        rows = [("OVERRIDES", "RUN", "STATE", "TOOK", "EXIT")]
        for index, one in enumerate(self.plans):
            record = self.ended.get(index)
            if record is None:
                rows.append((one.title, "", "not started", "", ""))
                continue
            took = in_words(seconds(record.started, record.ended))
            code = "" if record.exit_code is None else str(record.exit_code)
            rows.append((one.title, record.run_id, record.state, took, code))
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines = [
            "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
        ]
        return "\n".join(["", *lines, ""])


def title_of(name: str, overrides: tuple[str, ...], every: list[tuple[str, ...]]) -> str:
    """The overrides in which a plan differs from the others of its sweep, its name where there are none."""
    own = [word for place, word in enumerate(overrides) if len({other[place] for other in every}) > 1]
    return shlex.join(own or overrides) or name
