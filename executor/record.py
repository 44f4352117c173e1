"""The record of a run: what was started, when, by which process, and how it ended."""

from __future__ import annotations

import errno
import os
import re
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import msgspec

from ..compiler.plan import LaunchPlan, encode
from ..spec.findings import FindingsError, finding
from .files import write_atomically
from .model import Asked, Failure
from .placeholders import Values
from .procfs import stat_of

#: `lost` is in no file: it is what a look finds where a record says running and its process is gone.
State = Literal["running", "submitted", "succeeded", "failed", "stopped", "lost"]
FORMAT = 1
#: States of a run that has not ended as far as its record knows.
UNDERWAY: frozenset[State] = frozenset({"running", "submitted"})
#: What the folder of a run is called until it is whole, and once it is being removed.
MAKING, REMOVING = ".new-", ".removed-"
_RENAMED_OVER = {errno.EEXIST, errno.ENOTEMPTY}


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One run. Times are UTC in ISO form; `pid_start` (clock ticks after boot) tells a reused pid from this.

    It holds no variable of the environment and nothing that the job wrote. A run that is `submitted` goes on without
    us: `captured` is what its steps read from the output of commands, such as a scheduler's number of it, and `word`
    what the scheduler last called its state.
    """

    format: int = FORMAT
    run_id: str
    name: str
    digest: str
    state: State
    started: str
    ended: str | None = None
    exit_code: int | None = None
    failed_rank: int | None = None
    failed_code: int | None = None
    failed_signal: int | None = None
    pid: int
    pid_start: int | None = None
    python: str
    project_dir: str
    captured: dict[str, str] = {}
    word: str | None = None
    argv: tuple[str, ...] = ()
    asked: Asked | None = None


_DECODER = msgspec.json.Decoder(Record)


def create(
    runs: Path,
    plan: LaunchPlan,
    *,
    python: str,
    project_dir: Path,
    argv: tuple[str, ...],
    asked: Asked | None = None,
) -> tuple[Path, Record]:
    """Create the folder of a run that starts now, executed by this process, for its owner only; with its record.

    It is made out of sight and gets its name when it is whole, so that whoever looks finds a run or none, and no two
    runs ever get the same.

    Raises:
        FindingsError: J404, it cannot be created.
    """
    safe = re.sub(r"[^A-Za-z0-9._-]+", "-", plan.name).strip(".-")[:80] or "job"
    try:
        runs.mkdir(mode=0o700, parents=True, exist_ok=True)
        while True:
            now = datetime.now(UTC)
            # The last word is the part of the second, so that names of runs are in the order of their starts.
            run_dir = runs / f"{safe}-{now:%Y%m%d-%H%M%S}-{now.microsecond * 65536 // 1_000_000:04x}"
            record = _begin(plan, run_dir, python=python, project_dir=project_dir, argv=argv, asked=asked)
            if _made(run_dir, plan, record):
                return run_dir, record
    except OSError as error:
        raise unwritable(runs, error) from error


def _made(run_dir: Path, plan: LaunchPlan, record: Record) -> bool:
    """Make the folder of a run; whether the name was free."""
    made = run_dir.with_name(f"{MAKING}{os.getpid()}-{run_dir.name}")
    made.mkdir(mode=0o700)
    try:
        kept = _kept(run_dir, plan, record)
        if kept is None:
            (made / "logs").mkdir(mode=0o700)
        else:
            (made / "logs").symlink_to(kept)
        write_atomically(made / "plan.json", encode(plan), 0o600)
        save(record, made)
        made.rename(run_dir)  # never over another run: the folder of one is not empty
    except OSError as error:
        shutil.rmtree(made, ignore_errors=True)
        if error.errno not in _RENAMED_OVER:
            raise
        return False
    except FindingsError:
        shutil.rmtree(made, ignore_errors=True)
        raise
    return True


def _kept(run_dir: Path, plan: LaunchPlan, record: Record) -> Path | None:
    """The folder of a run's logs, made, where the job keeps them elsewhere than in the run's folder."""
    if plan.output.folder is None:
        return None
    values = Values(plan, run_dir, Path(record.project_dir), record.python, record.pid)
    folder = Path(values.fill(plan.output.folder))
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        cause = f"the folder of logs cannot be made: {error.strerror}: {os.fsdecode(error.filename or folder)}"
        step = "make room there, or let `logging.folder` name a folder that you may write"
        raise FindingsError((finding("J404", cause, next_step=step),)) from error
    return folder


def unwritable(path: Path, error: OSError) -> FindingsError:
    """The error that says why a path below the run's folder cannot be written."""
    where = error.filename or path
    found = finding(
        "J404",
        f"the run's folder cannot be written: {error.strerror}: {os.fsdecode(where)}",
        next_step="make room there, or set XDG_STATE_HOME to a folder that you may write",
    )
    return FindingsError((found,))


def _begin(
    plan: LaunchPlan,
    run_dir: Path,
    *,
    python: str,
    project_dir: Path,
    argv: tuple[str, ...],
    asked: Asked | None,
) -> Record:
    mine = stat_of(os.getpid())
    return Record(
        run_id=run_dir.name,
        name=plan.name,
        digest=plan.digest,
        state="running",
        started=_now(),
        pid=os.getpid(),
        pid_start=mine.start if mine else None,
        python=_text(python),
        project_dir=_text(str(project_dir)),
        argv=tuple(_text(word) for word in argv),
        asked=None if asked is None else _plain(asked),
    )


def end(record: Record, state: State, exit_code: int, failure: Failure | None) -> Record:
    """The record of a run that ends now."""
    return msgspec.structs.replace(
        record,
        state=state,
        ended=_now(),
        exit_code=exit_code,
        failed_rank=failure.rank if failure else None,
        failed_code=failure.code if failure else None,
        failed_signal=failure.signal if failure else None,
    )


def save(record: Record, run_dir: Path) -> None:
    """Write `record.json`.

    Raises:
        OSError: it cannot be written.
    """
    text = msgspec.json.format(msgspec.json.encode(record), indent=2)
    write_atomically(run_dir / "record.json", text + b"\n", 0o600)


def load(run_dir: Path) -> Record:
    """Read `record.json`.

    Raises:
        OSError: it cannot be read.
        msgspec.MsgspecError: it is not a record.
    """
    with open(f"{run_dir}/record.json", "rb", buffering=0) as file:  # noqa: PTH123 - a registry may hold thousands
        return _DECODER.decode(file.read())


def look(run_dir: Path) -> Record:
    """The record of a run as things stand: one that says running is not believed when its process is gone.

    Raises:
        OSError: it cannot be read.
        msgspec.MsgspecError: it is not a record.
    """
    found = load(run_dir)
    if found.state == "running" and not alive(found):
        found = load(run_dir)  # it may have ended, with its last word, between the two looks
        if found.state == "running":
            found = msgspec.structs.replace(found, state="lost")
    return found


def alive(record: Record) -> bool:
    """Whether the process that executes the run still does, here and now."""
    if record.state != "running":
        return False
    if record.pid_start is not None:
        found = stat_of(record.pid)
        return found is not None and found.start == record.pid_start and found.state not in "ZX"
    try:
        os.kill(record.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _plain(asked: Asked) -> Asked:
    return Asked(
        job=_text(asked.job),
        overrides=tuple(map(_text, asked.overrides)),
        config_dirs=tuple(map(_text, asked.config_dirs)),
        cwd=_text(asked.cwd),
    )


def _text(word: str) -> str:
    """A word of the command line or a path as JSON can hold it: bytes that are no UTF-8 become escapes."""
    return word.encode(errors="backslashreplace").decode()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
