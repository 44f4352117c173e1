"""Starting one command of a plan, and asking it to end."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from ..compiler.plan import Command
from ..spec.findings import FindingsError
from .checks import cannot_start, environment
from .model import Settings
from .placeholders import Values
from .procfs import can_tie, die_with_parent
from .record import unwritable
from .screen import Source


@dataclass(frozen=True, eq=False)
class Started:
    """A command that runs: its process, the files its output goes to, and how often its processes may start again."""

    command: Command
    process: subprocess.Popen[bytes]
    logs: Mapping[Source, Path]
    agent_log: Path | None = None
    stdin: BinaryIO | None = None
    index: int = 0
    restarts: int = 0

    @property
    def inherits(self) -> bool:
        """Whether it shares our terminal and process group."""
        return self.command.output == "inherit"

    @property
    def rank(self) -> int | None:
        """The rank that the command is, where it is exactly one."""
        return self.command.ranks[0] if len(self.command.ranks) == 1 else None

    def send(self, number: int) -> None:
        """Send a signal; an interrupt goes to a captured command's whole group, as a terminal's would."""
        if self.stdin is not None and number != signal.SIGKILL:
            with suppress(OSError):  # it ended meanwhile, and took nothing more
                self.stdin.close()
            return
        with suppress(ProcessLookupError, PermissionError):  # it ended meanwhile, or became another user
            if number == signal.SIGINT and self.command.output == "capture":
                os.killpg(self.process.pid, number)
            else:
                self.process.send_signal(number)


def start(command: Command, values: Values, settings: Settings, run_dir: Path, index: int) -> Started:
    """Start a command: with our terminal, or in a session of its own with its output in files.

    Raises:
        FindingsError: J403, the system refuses to start it; J404, its log files cannot be written.
    """
    argv = values.argv(command)
    if command.output == "inherit":
        return Started(
            command, _popen(argv, command, values, settings, (_fd(settings.stdout), _fd(settings.stderr))), {}
        )
    logs = run_dir / "logs"
    try:
        logs.mkdir(mode=0o700, exist_ok=True)
        if command.output == "torchelastic":
            path = logs / ("agent.log" if index == 0 else f"agent_{index}.log")
            with path.open("ab") as log:
                process = _popen(argv, command, values, settings, (log.fileno(), log.fileno()))
            return Started(command, process, {}, path)
        tagged = command.output in {"tagged", "deepspeed"}
        rank = index if tagged or not command.ranks else command.ranks[0]
        name = f"rank_{rank}" if not tagged else f"node_{index}" if command.ranks else f"{command.title}_{index}"
        out, err = logs / f"{name}.stdout.log", logs / f"{name}.stderr.log"
        with out.open("ab") as stdout, err.open("ab") as stderr:
            process = _popen(argv, command, values, settings, (stdout.fileno(), stderr.fileno()))
    except OSError as error:
        raise unwritable(logs, error) from error
    return Started(
        command,
        process,
        {Source(rank, "stdout", tagged): out, Source(rank, "stderr", tagged): err},
        agent_log=out if command.output == "deepspeed" else None,
        stdin=_feed(process, command, values),
        index=index,
        restarts=values.restarts,
    )


def _feed(process: subprocess.Popen[bytes], command: Command, values: Values) -> BinaryIO | None:
    """Write a command's input; the pipe stays open until the command is to end."""
    if command.stdin is None or process.stdin is None:
        return None
    try:
        process.stdin.write(values.fill(command.stdin).encode(errors="surrogateescape"))
        process.stdin.flush()
    except BrokenPipeError:  # it ended at once; its exit code says why
        return None
    return cast("BinaryIO", process.stdin)


def _popen(
    argv: list[str],
    command: Command,
    values: Values,
    settings: Settings,
    streams: tuple[int | None, int | None],
) -> subprocess.Popen[bytes]:
    inherits = command.output == "inherit"
    try:
        return subprocess.Popen(
            argv,
            env=environment(command, values, settings.env),
            cwd=values.cwd(command),
            stdin=None if inherits else subprocess.DEVNULL if command.stdin is None else subprocess.PIPE,
            stdout=streams[0],
            stderr=streams[1],
            start_new_session=not inherits,
            preexec_fn=die_with_parent(signal.SIGTERM) if can_tie() else None,  # noqa: PLW1509
        )
    except OSError as error:
        raise FindingsError((cannot_start(argv, error.strerror or str(error)),)) from error
    except (ValueError, IndexError) as error:  # a null byte in an argument or a variable, an empty vector
        raise FindingsError((cannot_start(argv, str(error)),)) from error


def _fd(stream: object) -> int | None:
    """The descriptor behind a stream of the caller; None, its own, when there is none."""
    try:
        return stream.fileno()  # type: ignore[attr-defined]
    except (OSError, ValueError, AttributeError):
        return None
