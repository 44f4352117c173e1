"""`jobc run -m`: every plan of a sweep, some at a time, and a table at the end."""

from __future__ import annotations

import shlex
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click

from .detach import detached
from .runs import home, in_words, seconds, verb

if TYPE_CHECKING:
    from ..compiler.plan import LaunchPlan
    from ..executor import Asked, Record

_TICK = 0.1  # seconds between two looks at the runs
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


def _asked_to_end(number: int, _frame: FrameType | None) -> None:
    raise _AskedToEndError(number)


@dataclass
class Sweep:
    """Runs plans, at most `jobs` at a time, each in a session of its own with its output in its folder."""

    plans: tuple[One, ...]
    jobs: int
    runs: dict[int, str] = field(default_factory=dict[int, str])
    ended: dict[int, Record] = field(default_factory=dict[int, "Record"])

    def carry_out(self) -> int:
        """Run all. The exit code is 0, that of the first that failed, or 128 and the number of a signal that ended all.

        Raises:
            FindingsError: a plan cannot be started; those that run are ended then.
        """
        waiting = list(range(len(self.plans)))
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, _asked_to_end)
        try:
            while waiting or len(self.ended) < len(self.runs):
                while waiting and len(self.runs) - len(self.ended) < self.jobs:
                    self._start(waiting.pop(0))
                time.sleep(_TICK)
                self._look()
        except (KeyboardInterrupt, _AskedToEndError) as error:
            self._stop()
            click.echo(self._table(), err=True)
            return 128 + (error.number if isinstance(error, _AskedToEndError) else signal.SIGINT)
        except BaseException:
            self._stop()
            raise
        click.echo(self._table())
        codes = [1 if record.exit_code is None else record.exit_code for _, record in sorted(self.ended.items())]
        return next((code for code in codes if code), 0)

    def _start(self, index: int) -> None:
        from .api import execute_plan

        one = self.plans[index]
        run = detached(lambda begun: execute_plan(one.plan, one.project_dir, asked=one.asked, begun=begun))
        self.runs[index] = run
        self._say(index, f"starts   {run}")

    def _look(self) -> None:
        from ..executor.registry import record_of

        for index, run in self.runs.items():
            if index in self.ended:
                continue
            record = record_of(home() / run)
            state = record.state
            if state not in {"running", "submitted"}:
                self.ended[index] = record
                word = click.style(state, fg=_COLORS.get(state)) if sys.stderr.isatty() else state
                code = f", exit code {record.exit_code}   (jobc logs {run})" if record.exit_code else ""
                self._say(index, f"{word} after {in_words(seconds(record.started, record.ended))}{code}")

    def _stop(self) -> None:
        """End what runs, and wait for it."""
        from .wait import until_ended

        going = [index for index in self.runs if index not in self.ended]
        for index in going:
            verb(self.plans[index].plan, home() / self.runs[index], self.plans[index].plan.stop)
        for index in going:
            self.ended[index] = until_ended(home() / self.runs[index])

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
