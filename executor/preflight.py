"""Asks the machines of a plan what they are like before a run, each by itself, so that one that is down hides none."""

from __future__ import annotations

import os
import re
import selectors
import subprocess
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import BinaryIO, cast

import msgspec

from ..compiler.plan import Command, LaunchPlan, RunCommand, RunForNodes
from .checks import check, environment
from .family import Family
from .model import Settings
from .placeholders import Values, absolute, commands
from .procfs import subreaper

_MARK = "jobc-preflight "
_END = re.compile(rb"^jobc-preflight end -?[0-9]+\n", re.MULTILINE)
#: Seconds that a machine may take beside those for its connection; the script there ends itself a little sooner.
_PATIENCE = 150.0
_LINES = 5  # of what went wrong that are kept


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """What the probe on a machine found. The faults are the system's words for what cannot be done there."""

    python: str
    executable: str
    torch: str | None
    cpus: int
    gpus: int | None
    listed_gpus: int | None
    memory: int | None
    disk: int
    write_fault: str | None
    port_fault: str | None
    mine: bool
    lookup_fault: str | None
    time: float


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What came back from a machine.

    A `gate` is not a machine: it says with its exit code whether it would take the run. `here` says that the machine
    was reached, `ready` that the job's `setup` ran, `said` is what its probe found. `without` are programs that it
    lacks, `empty` says that the job's files are not there. `clock` is how many seconds it is ahead of this machine,
    `code` the exit code of the probe, or of the way to the machine, None where it took too long, and `words` are the
    last lines on its error output.
    """

    node: int
    host: str
    gate: bool = False
    here: bool = False
    empty: bool = False
    ready: bool = False
    without: tuple[str, ...] = ()
    said: Said | None = None
    clock: float | None = None
    code: int | None = None
    words: tuple[str, ...] = ()


def ask(plan: LaunchPlan, settings: Settings, patience: float = _PATIENCE) -> tuple[Report, ...]:
    """Carry out the plan's preflight; what came back from each machine, in the order of the nodes.

    Raises:
        FindingsError: J401 or J403, a secret or a program is missing on this machine; nothing has been asked then.
    """
    project_dir = absolute(settings.project_dir)
    values = Values(plan, absolute(settings.runs_dir) / "run", project_dir, settings.python, os.getpid(), settings.env)
    needed = (*(step for step in plan.submit if isinstance(step, RunForNodes)), *plan.preflight)
    check(plan, needed, values, settings.env, secrets=plan.secrets)
    hosts = [host for group in plan.nodes for host in group.hosts]
    found: list[Report] = []
    with subreaper():
        family = Family(None)
        try:
            for step in plan.preflight:
                if isinstance(step, RunForNodes | RunCommand):
                    at_once = step.at_once if isinstance(step, RunForNodes) else 1
                    found += _Asking(values, settings, family, patience).all(
                        commands(plan, step), hosts or [""], at_once
                    )
        finally:
            family.end(2.0)
    return tuple(found)


class _Asking:
    """The commands of one step, some at the same time."""

    def __init__(self, values: Values, settings: Settings, family: Family, patience: float) -> None:
        self._values = values
        self._settings = settings
        self._family = family
        self._patience = patience

    def all(self, wanted: Sequence[Command], hosts: Sequence[str], at_once: int) -> list[Report]:
        """What came back from each."""
        pool = ThreadPoolExecutor(at_once)
        try:
            return list(pool.map(self._one, range(len(wanted)), hosts, wanted))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            self._family.end(2.0)  # what the threads wait for
            raise
        finally:
            pool.shutdown()

    def _one(self, node: int, host: str, command: Command) -> Report:
        with tempfile.TemporaryFile() as errors:
            process = subprocess.Popen(
                self._values.argv(command),
                env=environment(command, self._values, self._settings.env),
                cwd=self._values.cwd(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
            )
            self._family.add(process.pid, own_session=True)
            asked = self._values.fill(command.stdin or "").encode(errors="surrogateescape")
            out, ended = _answer(process, asked, time.monotonic() + self._patience)
            now = time.time()
            code = _code(process) if ended else None
            process.kill()
            process.wait()
            errors.seek(0)
            words = errors.read().decode(errors="replace")
        if command.output == "tagged":
            lines = [line for line in (words or out.decode(errors="replace")).splitlines() if line.strip()]
            return Report(node=node, host=command.title or "", gate=True, code=code, words=tuple(lines[-_LINES:]))
        return read(node, host, out.decode(errors="replace"), words, code, now)


def _answer(process: subprocess.Popen[bytes], asked: bytes, deadline: float) -> tuple[bytes, bool]:
    """What a process writes until it says `end`, or closes its output, and whether it did so in time.

    What it left in the background may hold the output open, so that its end is not waited for.
    """
    stdin, stdout = cast("BinaryIO", process.stdin), cast("BinaryIO", process.stdout)
    out = b""
    with suppress(BrokenPipeError), stdin:  # it has ended already; its exit code says why
        stdin.write(asked)
    with stdout, selectors.DefaultSelector() as selector:
        selector.register(stdout, selectors.EVENT_READ)
        while selector.select(max(0.0, deadline - time.monotonic())):
            part = os.read(stdout.fileno(), 65536)
            out += part
            if not part or _END.search(out):
                return out, True
    return out, False


def _code(process: subprocess.Popen[bytes]) -> int | None:
    """The exit code of a process that has said all, None where it hangs."""
    with suppress(subprocess.TimeoutExpired):
        return process.wait(5.0)
    return None


def read(node: int, host: str, out: str, err: str, code: int | None, now: float) -> Report:
    """A report from what a machine wrote until `now`; lines that are not ours are those of the job's `setup`."""
    lines = [line.removeprefix(_MARK) for line in out.splitlines() if line.startswith(_MARK)]
    told = [(word, value) for word, _, value in (line.partition(" ") for line in lines)]
    rest = dict(told)
    said = msgspec.json.decode(rest["report"], type=Said) if "report" in rest else None
    return Report(
        node=node,
        host=host,
        here="here" in rest,
        empty="empty" in rest,
        ready="ready" in rest,
        without=tuple(value for word, value in told if word == "without"),
        said=said,
        clock=None if said is None else said.time - now,
        code=int(rest["end"]) if "end" in rest else code,
        words=tuple(line for line in err.splitlines() if line.strip())[-_LINES:],
    )
