"""What goes into an execution and what comes out of it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO, TextIO

import msgspec

_SSH_FAILED = 255
_ASKED = 128 + 15  # what a process ends with that saved when it was asked to end


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """What failed first: an exit code or a signal, of a rank where one is to blame.

    `lines` are the last lines that it wrote; they are shown to a person and never recorded. `host` is the machine that
    it ran on, where that is not this one.
    """

    rank: int | None = None
    code: int | None = None
    signal: int | None = None
    lines: tuple[str, ...] = ()
    host: str | None = None

    @property
    def exit_code(self) -> int:
        """The exit status a shell would report: the code, or 128 + the signal."""
        if self.signal is not None:
            return 128 + self.signal
        return self.code or 0

    @property
    def how(self) -> str:
        """How it failed, as the end of a sentence."""
        if self.host is not None and self.code == _SSH_FAILED:
            return "it could not be reached, or the connection to it was lost (ssh: exit code 255)"
        if self.signal is None:
            return f"exit code {self.code}" + (" (asked to end by SIGTERM)" if self.code == _ASKED else "")
        from signal import Signals  # noqa: PLC0415  (only a failure pays for it)

        known = {int(item): item.name for item in Signals}
        return f"signal {self.signal} ({known.get(self.signal, 'unknown')})"


def failure_of(returncode: int, *, rank: int | None, lines: tuple[str, ...] = ()) -> Failure:
    """The failure that a return code of `subprocess` (negative for a signal) says."""
    if returncode < 0:
        return Failure(rank=rank, signal=-returncode, lines=lines)
    return Failure(rank=rank, code=returncode, lines=lines)


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What a run was made from: the absolute path of a job or a saved plan, the words after it, and the folder then."""

    job: str
    overrides: tuple[str, ...] = ()
    config_dirs: tuple[str, ...] = ()
    cwd: str


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What an execution needs to know about this machine and its caller.

    `project_dir` is where commands start that say nothing else. `env` is the environment that they inherit,
    `grace` the seconds between asking a process to end and ending it. `argv` is the command line and `asked` what it
    was about, both for the run's record. `begun` is called with the run's folder once the run is recorded, before
    anything is written to the streams. `wait` says to stay until a run has ended that something else carries out.
    """

    project_dir: Path
    env: Mapping[str, str]
    runs_dir: Path
    stdout: BinaryIO | TextIO
    stderr: BinaryIO | TextIO
    python: str = sys.executable
    grace: float = 30.0
    color: bool = False
    argv: tuple[str, ...] = ()
    asked: Asked | None = None
    begun: Callable[[Path], None] | None = None
    wait: bool = True


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How a run ended. `exit_code` is 0, that of the first failure, or 128 + the signal that stopped it."""

    run_id: str
    run_dir: Path
    exit_code: int
    failure: Failure | None = None


def runs_dir(env: Mapping[str, str]) -> Path:
    """The folder of run records: `$XDG_STATE_HOME/jobc/runs`, by default under `~/.local/state`."""
    state = env.get("XDG_STATE_HOME", "")
    if not os.path.isabs(state):  # noqa: PTH117  (the specification says to ignore a relative path; "" is not one)
        home = env.get("HOME") or str(Path.home())
        state = f"{home}/.local/state"
    return Path(state, "jobc", "runs")
