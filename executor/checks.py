"""What must be true before anything starts: secrets, ports, programs, folders; all that is wrong, at once."""

from __future__ import annotations

import errno
import os
import shutil
import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from ..compiler.plan import Command, LaunchPlan, StartNodes, Step, WriteFile
from ..spec.findings import Finding, FindingsError, finding
from .placeholders import Values, commands
from .procfs import command_line, listener


def check(
    plan: LaunchPlan,
    steps: tuple[Step, ...],
    values: Values,
    env: Mapping[str, str],
    *,
    secrets: tuple[str, ...] = (),
) -> None:
    """Look at everything that the steps need.

    Raises:
        FindingsError: J401, J402, J403: a secret, a port, a program or a folder is not there.
    """
    found = [_secret(name) for name in secrets if not env.get(name)]
    ports = dict.fromkeys(port for step in steps if isinstance(step, StartNodes) for port in step.ports)
    found += [item for port in ports if (item := _port(port)) is not None]
    written = {values.path(step) for step in steps if isinstance(step, WriteFile)}
    started = dict.fromkeys(
        (
            tuple(values.fill(word) for word in command.argv[:1]),  # later words may wait for what steps capture
            str(values.cwd(command)),
            values.fill(command.env["PATH"]) if "PATH" in command.env else env.get("PATH"),
        )
        for step in steps
        for command in commands(plan, step)
    )
    for argv, cwd, path in started:
        found += _program(argv, Path(cwd), path, written)
    if found:
        raise FindingsError(tuple(found))


def environment(command: Command, values: Values, env: Mapping[str, str]) -> dict[str, str]:
    """The environment that a command starts with: the caller's without what the plan takes away, and what it adds."""
    inherited = {name: value for name, value in env.items() if not name.startswith(command.unset)}
    return {**inherited, **values.env(command)}


def cannot_start(argv: list[str], why: str) -> Finding:
    """The finding for a command that the system refuses to start."""
    name = argv[0] if argv else ""
    return finding(
        "J403",
        f"`{name}` cannot be started: {why}",
        next_step="check `script`, `command` and `python` in the job, and PATH where jobc runs",
    )


def _secret(name: str) -> Finding:
    return finding(
        "J401",
        f"the job needs the secret `{name}`, and the environment does not have it",
        next_step=f"set it where you start the job (export {name}=...), or take it out of `secrets`",
    )


def _port(port: int) -> Finding | None:
    why = _taken(port)
    if why is None:
        return None
    if why == errno.EADDRINUSE:
        pid = listener(port)
        holder = f" by process {pid} ({command_line(pid)})" if pid is not None else ""
        cause = f"port {port} is already in use{holder}"
    else:
        cause = f"port {port} cannot be used: {os.strerror(why)}"
    return finding("J402", cause, next_step="end that process or choose another port in the job's rendezvous")


def _taken(port: int) -> int | None:
    """Why a port cannot be listened on (an errno), None when it can."""
    families = [(socket.AF_INET, "0.0.0.0")]  # noqa: S104  (asked for a moment, never served)
    if socket.has_ipv6:
        families.append((socket.AF_INET6, "::"))
    for family, host in families:
        with (
            suppress(OSError),
            socket.socket(family, socket.SOCK_STREAM) as probe,
        ):  # a family the kernel lacks
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                if error.errno in {errno.EADDRINUSE, errno.EACCES}:
                    return error.errno
    return None


def _program(argv: tuple[str, ...], cwd: Path, path: str | None, written: set[Path]) -> list[Finding]:
    if not cwd.is_dir():
        what = "is not a folder" if cwd.exists() else "does not exist"
        return [cannot_start(list(argv), f"the folder in which it starts {what}: {cwd}")]
    if not argv or not argv[0]:
        return [cannot_start(list(argv), "the command is empty")]
    if "\0" in argv[0]:
        return [cannot_start(list(argv), "its name holds a null byte")]
    if "/" not in argv[0]:
        if shutil.which(argv[0], path=os.defpath if path is None else path) is None:
            return [cannot_start(list(argv), "there is no such program on PATH")]
        return []
    program = cwd / argv[0]
    if program in written:
        return []
    if not program.exists():
        return [cannot_start(list(argv), "there is no such file")]
    if program.is_dir() or not os.access(program, os.X_OK):
        return [cannot_start(list(argv), "it is not an executable file")]
    return []
