"""Runs that something else carries out, a scheduler: handed over, asked how they are, accompanied to their end."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from ..compiler.plan import LaunchPlan, Report, RunCommand, Standing
from ..spec.findings import FindingsError, finding
from . import record as records
from .checks import cannot_start, environment
from .follow import Display
from .logs import follow, in_files
from .model import Failure, Outcome, Settings
from .placeholders import Values, commands
from .record import Record
from .registry import record_of
from .screen import Screen
from .torchelastic import earliest_failure

_PATIENCE = 120.0  # seconds that a scheduler may take to answer
_ENDED: frozenset[Standing] = frozenset({"succeeded", "failed", "stopped"})
_STOPPED = 128 + 15  # the exit code of a run that was stopped and left none
_LINES = 5
_TICK = 0.2  # seconds between two looks at what was last said


@dataclass(frozen=True)
class Told:
    """What was said of a run: how it is doing, in the scheduler's own word too, and its exit code once it ended."""

    standing: Standing | None
    word: str | None = None
    code: int | None = None
    words: tuple[str, ...] = ()


def captured(step: RunCommand, run_dir: Path) -> dict[str, str]:
    """What a command's output has that later steps need.

    Raises:
        FindingsError: J413, it is not there.
    """
    if not step.captures:
        return {}
    text = (run_dir / "logs" / f"{step.command.title}_0.stdout.log").read_text(errors="replace")
    found: dict[str, str] = {}
    for capture in step.captures:
        match = re.search(capture.pattern, text, re.MULTILINE)
        if match is None:
            cause = f"`{step.command.title}` did not say its {capture.name}: {text.strip()[:200]!r}"
            raise FindingsError((finding("J413", cause, next_step="see whether it has the run, and end it by hand"),))
        found[capture.name] = match[1]
    return found


def submitted(record: Record, known: Mapping[str, str], run_dir: Path) -> Record:
    """Note that a run goes on without us, and by what names."""
    record = msgspec.structs.replace(record, state="submitted", captured=dict(known))
    records.save(record, run_dir)
    return record


def ask(plan: LaunchPlan, run_dir: Path, record: Record, env: Mapping[str, str]) -> Told:
    """Ask how a run is doing with the `status` of its plan.

    Raises:
        FindingsError: J403, what is asked cannot be started; J414, it does not answer.
    """
    step = next(step for step in plan.status if isinstance(step, Report))
    values = Values(plan, run_dir, Path(record.project_dir), record.python, record.pid, env, record.captured)
    command = commands(plan, step)[0]
    argv = values.argv(command)
    try:
        done = subprocess.run(
            argv,
            env=environment(command, values, env),
            cwd=values.cwd(command) if command.cwd is not None else Path("/"),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PATIENCE,
            check=False,
            start_new_session=True,
        )
    except subprocess.TimeoutExpired as error:
        cause = f"`{argv[0]}` did not answer within {_PATIENCE:g} s"
        raise FindingsError((finding("J414", cause, next_step="the run goes on; ask again"),)) from error
    except OSError as error:
        raise FindingsError((cannot_start(argv, error.strerror or str(error)),)) from error
    match = re.search(step.pattern, done.stdout.decode(errors="replace"), re.MULTILINE)
    if match is None:
        words = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines()
        return Told(None, words=tuple(words[-_LINES:]))
    said = match.groupdict()
    code = said.get("code")
    return Told(step.states.get(said["word"]), said["word"], None if not code else int(code))


def look(plan: LaunchPlan, run_dir: Path, env: Mapping[str, str]) -> tuple[Record, Told | None]:
    """The record of a run as things stand. One that was handed over is asked for, and noted once it has ended.

    Raises:
        FindingsError: as `ask`; J408, the record cannot be read.
    """
    record = record_of(run_dir)
    if record.state != "submitted":
        return record, None
    told = ask(plan, run_dir, record, env)
    if told.standing in _ENDED:
        record = _ended(plan, run_dir, record, told)
    elif told.word not in {None, record.word}:
        record = msgspec.structs.replace(record, word=told.word)
        records.save(record, run_dir)
    return record, told


def _ended(plan: LaunchPlan, run_dir: Path, record: Record, told: Told) -> Record:
    """Note how a run has ended; which process failed, where the launcher's agents wrote it into files of ours."""
    failure = None
    if told.standing == "failed" and in_files(plan):
        failure = earliest_failure(sorted((run_dir / "logs").glob("node_*.stderr.log")))
    match told.standing:
        case "succeeded":
            ended = records.end(record, "succeeded", 0, None)
        case "stopped":
            ended = records.end(record, "stopped", told.code or _STOPPED, None)
        case _:
            code = (failure.exit_code if failure is not None else 0) or told.code or 1
            ended = records.end(record, "failed", code, failure)
    record = msgspec.structs.replace(ended, word=told.word)
    records.save(record, run_dir)
    return record


def interval(plan: LaunchPlan) -> float:
    """Seconds between two questions how a run is doing."""
    every = [step.every for step in plan.wait if isinstance(step, Report) and step.every is not None]
    return every[0] if every else 5.0


@dataclass
class Asking:
    """Whether a run goes on, asked no more often than its plan says; what is new of it is said.

    `due` is when it may be asked again, by the monotonic clock.
    """

    plan: LaunchPlan
    run_dir: Path
    env: Mapping[str, str]
    say: Callable[[str], None]
    record: Record | None = None
    due: float = 0.0
    _told: Told | None = None

    def __call__(self) -> bool:
        if self.record is None or (self.record.state == "submitted" and time.monotonic() >= self.due):
            self.record, told = look(self.plan, self.run_dir, self.env)
            self.due = time.monotonic() + interval(self.plan)
            if told is not None and told != self._told:
                self.say(f"jobc: {in_words(told)}\n")
                self._told = told
        return self.record.state == "submitted"

    @property
    def pending(self) -> bool:
        """Whether the run had not begun when it was last asked for."""
        return self._told is not None and self._told.standing == "pending"


def in_words(told: Told) -> str:
    """What was said of a run, for a person."""
    if told.standing is None:
        return "its state is not known: " + (" ".join(told.words) or told.word or "nothing was said of it")
    return told.standing + (f" ({told.word})" if told.word and told.word.lower() != told.standing else "")


def accompany(
    plan: LaunchPlan, run_dir: Path, settings: Settings, screen: Screen, follow_steps: Callable[[], object]
) -> Outcome:
    """Show what a run writes that was handed over, until it has ended. An interrupt leaves it going on.

    `follow_steps` carries out the plan's `follow`, for runs that write no files here.

    Raises:
        FindingsError: as `look`.
    """
    going_on, name = Asking(plan, run_dir, settings.env, screen.say), run_dir.name
    try:
        show_until_ended(plan, run_dir, screen, going_on, follow_steps)
    except KeyboardInterrupt:
        screen.say(f"jobc: the run goes on; `jobc logs -f {name}` shows it, `jobc stop {name}` ends it\n")
        return Outcome(run_id=name, run_dir=run_dir, exit_code=130)
    record, failure = records.load(run_dir), None
    if record.failed_rank is not None:
        failure = Failure(rank=record.failed_rank, code=record.failed_code, signal=record.failed_signal)
        screen.say(f"jobc: rank {failure.rank} failed: {failure.how}\n")
    return Outcome(run_id=name, run_dir=run_dir, exit_code=record.exit_code or 0, failure=failure)


def show_until_ended(
    plan: LaunchPlan,
    run_dir: Path,
    display: Display,
    going_on: Asking,
    follow_steps: Callable[[], object],
    rank: int | None = None,
) -> None:
    """Show what a run writes, or one of its ranks, from its files or with the steps that its plan has for that."""
    if in_files(plan):
        follow(plan, run_dir, display, rank, going_on)
        return
    while going_on() and going_on.pending:
        time.sleep(_TICK)
    follow_steps()
    while going_on():
        time.sleep(_TICK)
