"""Carries out the steps of a plan: a whole run, or one of its verbs."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..compiler.plan import (
    CallApi,
    Command,
    LaunchPlan,
    PackFiles,
    RunCommand,
    RunForNodes,
    StartNodes,
    Step,
    WriteFile,
)
from ..spec.findings import FindingsError, JobcError
from . import record as records
from .checks import check
from .earlier import job_id
from .family import Family
from .files import write_atomically
from .guardian import Guardian
from .handover import accompany, captured, submitted
from .interrupts import Interrupts
from .model import Failure, Outcome, Settings
from .packing import pack
from .placeholders import Values, absolute, asks_for, commands
from .placing import misplaced
from .processes import Started, start
from .procfs import can_tie, subreaper
from .screen import Screen, Sink, Source
from .supervise import Again, Ended, Supervisor


def execute(plan: LaunchPlan, settings: Settings) -> Outcome:
    """Run a plan on this machine and keep the record of the run.

    A failure of the job is an outcome, not an exception.

    Raises:
        FindingsError: J401 to J404, what the plan needs is not there or the run's folder cannot be written; J410
            and J411, this process has another place than the plan's; J412, an earlier run that it depends on will not
            do. Nothing has been started then, or all of it has been ended.
    """
    project_dir, runs = absolute(settings.project_dir), absolute(settings.runs_dir)
    with Interrupts() as interrupts:
        earlier = may_begin(plan, settings)
        run_dir, record = records.create(
            runs, plan, python=settings.python, project_dir=project_dir, argv=settings.argv, asked=settings.asked
        )
        values = Values(plan, run_dir, project_dir, settings.python, os.getpid(), settings.env, earlier=earlier)
        if settings.begun is not None:
            settings.begun(run_dir)
        screen = screen_of(settings, interrupts, plan.output.prefix)
        try:
            with subreaper(), Guardian(run_dir, settings.grace) as guardian:
                family = Family(run_dir, guardian)
                ended = Performance(
                    plan=plan,
                    values=values,
                    settings=settings,
                    run_dir=run_dir,
                    screen=screen,
                    interrupts=interrupts,
                    family=family,
                ).perform(plan.submit)
        except BaseException:
            with suppress(OSError):  # the disk that could not take a step's file may not take this one either
                records.save(records.end(record, "failed", 2, None), run_dir)
            raise
        if not (plan.wait and ended == Ended()):
            return conclude(ended, record, run_dir, screen)
        submitted(record, values.captured, run_dir)
    if settings.wait:
        return accompany(plan, run_dir, settings, screen, lambda: run_verb(plan, run_dir, plan.follow, settings))
    return Outcome(run_id=run_dir.name, run_dir=run_dir, exit_code=0)


def may_begin(plan: LaunchPlan, settings: Settings) -> dict[str, str]:
    """See whether all is there that a run needs, before it has a folder; the numbers of those that it waits for.

    Raises:
        FindingsError: as `execute`.
    """
    wrong = misplaced(plan, settings.env)
    if wrong is not None:
        raise FindingsError((wrong,))
    project_dir, runs = absolute(settings.project_dir), absolute(settings.runs_dir)
    imagined = Values(plan, runs / "run", project_dir, settings.python, os.getpid(), settings.env)
    check(plan, plan.submit, imagined, settings.env, secrets=plan.secrets)
    # Before this run has a folder, so that `last` is the one before it.
    return {name: job_id(runs, name) for name in plan.spec.get("depends_on", ())}


def run_verb(plan: LaunchPlan, run_dir: Path, steps: tuple[Step, ...], settings: Settings) -> int:
    """Carry out the steps of a verb (`plan.status`, `plan.logs`, `plan.stop`) for a run started before.

    Placeholders are those of that run; the process id is that of its executor. Returns the exit code, 0 or
    that of the first command that failed, or 1 when the steps need an executor that is no longer there.

    Raises:
        FindingsError: J403 or J404, a command cannot be started or a file cannot be written.
        JobcError: the folder holds no readable record of a run.
    """
    run_dir = absolute(run_dir)
    try:
        record = records.look(run_dir)
    except (OSError, ValueError) as error:  # msgspec's errors are ValueErrors
        raise JobcError(f"there is no readable record of a run in {run_dir}: {error}") from error
    with Interrupts() as interrupts:
        screen = screen_of(settings, interrupts, plan.output.prefix)
        if asks_for(plan, steps, "pid") and record.state != "running":
            how = "its executor is gone" if record.state == "lost" else record.state
            screen.say(f"jobc: run {record.run_id} is not running ({how})\n")
            return 1
        values = Values(
            plan, run_dir, Path(record.project_dir), record.python, record.pid, settings.env, record.captured
        )
        check(plan, steps, values, settings.env)
        ended = Performance(
            plan=plan,
            values=values,
            settings=settings,
            run_dir=run_dir,
            screen=screen,
            interrupts=interrupts,
            family=Family(None),
        ).perform(steps)
    if ended.stopped is not None:
        return 128 + ended.stopped
    return ended.failure.exit_code if ended.failure is not None else 0


@dataclass(frozen=True, kw_only=True)
class Performance:
    """The steps of one verb being carried out, for a run that has a folder."""

    plan: LaunchPlan
    values: Values
    settings: Settings
    run_dir: Path
    screen: Screen
    interrupts: Interrupts
    family: Family

    def perform(self, steps: Sequence[Step]) -> Ended:
        """Carry out steps one after the other, up to the first that fails or is stopped."""
        for step in steps:
            if self.interrupts.pending:
                return Ended(stopped=self.interrupts.fresh()[0].number)
            if isinstance(step, WriteFile | PackFiles):
                self._write(step)
                continue
            if isinstance(step, CallApi):
                raise NotImplementedError(f"{step.service} {step.operation}: J409 refuses such plans")
            wanted = commands(self.plan, step)
            for first in range(0, len(wanted), size := step.at_once if isinstance(step, RunForNodes) else len(wanted)):
                timeout = step.timeout if isinstance(step, StartNodes | RunCommand) else None
                again = (step.restarts, step.least) if isinstance(step, StartNodes) else (0, 0)
                ended = self._together(wanted[first : first + size], timeout, first, again)
                if ended != Ended():
                    return ended
            if isinstance(step, RunCommand):
                self.values.captured.update(captured(step, self.run_dir))
        return Ended()

    def _write(self, step: WriteFile | PackFiles) -> None:
        path = self.values.path(step)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(step, PackFiles):
                write_atomically(path, pack(self.values.project_dir, step.files), 0o600)
            else:
                write_atomically(path, self.values.fill(step.content).encode(errors="surrogateescape"), step.mode)
        except OSError as error:
            raise records.unwritable(path, error) from error

    def _together(self, wanted: Sequence[Command], timeout: float | None, first: int, again: tuple[int, int]) -> Ended:
        supervisor = Supervisor(
            self.run_dir,
            self.family,
            self.screen.aside() if all(_serves(command) for command in wanted) else self.screen,
            self.interrupts,
            grace=self.settings.grace,
            timeout=timeout,
            again=Again(lambda item: self._one(item.command, item.index), *again),
            output=self.plan.output,
        )
        started: list[Started] = []
        if self.interrupts.tell_senders and can_tie() and all(command.output == "inherit" for command in wanted):
            # An interrupt that comes between the start and the wait would be of an unknown sender.
            with self.interrupts.held():
                return self._start(wanted, first, supervisor, started)
        return self._start(wanted, first, supervisor, started)

    def _start(self, wanted: Sequence[Command], first: int, supervisor: Supervisor, started: list[Started]) -> Ended:
        try:
            for index, command in enumerate(wanted, first):
                started.append(self._one(self.values.placed(command), index))
        except BaseException:
            supervisor.abandon(started)
            raise
        return supervisor.wait(started)

    def _one(self, command: Command, index: int) -> Started:
        item = start(command, self.values, self.settings, self.run_dir, index)
        self.family.add(item.process.pid, own_session=not item.inherits)
        return item


def _serves(command: Command) -> bool:
    """Whether a command is no process of the job, nor shows what one wrote: it copies files or hands the job over."""
    return command.output == "tagged" and not command.ranks


#: The exit code of a run that took longer than it may, as that of timeout(1).
TIMED_OUT = 124


def screen_of(settings: Settings, interrupts: Interrupts, prefix: str) -> Screen:
    """What shows the output of commands on the streams of the caller."""

    def stopping() -> bool:
        return bool(interrupts.received)

    return Screen(Sink(settings.stdout, stopping), Sink(settings.stderr, stopping), color=settings.color, prefix=prefix)


def conclude(ended: Ended, record: records.Record, run_dir: Path, screen: Screen) -> Outcome:
    """Say how the run ended, and keep it."""
    if ended.timed_out is not None:
        screen.say(f"jobc: ended after its time limit of {ended.timed_out:g} s\n")
    elif ended.stopped is not None:
        screen.say(f"jobc: stopped by {signal.Signals(ended.stopped).name}\n")
    elif ended.failure is not None:
        screen.say(_summary(ended.failure, run_dir, screen))
    return keep(ended, record, run_dir, screen)


def keep(ended: Ended, record: records.Record, run_dir: Path, screen: Screen) -> Outcome:
    """Keep how the run ended."""
    state: records.State = "succeeded"
    code = 0
    if ended.timed_out is not None:
        state, code = "failed", TIMED_OUT
    elif ended.stopped is not None:
        state, code = "stopped", 128 + ended.stopped
    elif ended.failure is not None:
        state, code = "failed", ended.failure.exit_code
    try:
        records.save(records.end(record, state, code, ended.failure), run_dir)
    except OSError as error:
        screen.say(f"jobc: the end of the run could not be recorded: {error.strerror}: {run_dir}\n")
    return Outcome(run_id=run_dir.name, run_dir=run_dir, exit_code=code, failure=ended.failure)


def _summary(failure: Failure, run_dir: Path, screen: Screen) -> str:
    """Which rank failed, how, what it said last unless that was just shown, and where the logs are."""
    who = "the launcher" if failure.rank is None else f"rank {failure.rank}"
    if failure.host is not None:
        who = f"{who} on {failure.host}" if failure.rank is not None else f"the machine {failure.host}"
    lines = [f"jobc: {who} failed: {failure.how}"]
    shown = failure.rank is not None and any(
        screen.ends_with(Source(failure.rank, stream), failure.lines[-1])
        for stream in ("stderr", "stdout")
        if failure.lines
    )
    if not shown:
        lines += [f"  | {line}" for line in failure.lines]
    kept = any((run_dir / "logs").iterdir())
    one = "" if failure.rank is None else f" --rank {failure.rank}"
    lines.append(f"  jobc logs {run_dir.name}{one}   shows more" if kept else f"  run in {run_dir}")
    return "\n".join(lines) + "\n"
