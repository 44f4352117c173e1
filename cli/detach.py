"""Runs that go on without the command that started them."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import click

from ..spec.findings import Finding, FindingsError


def detached(start: Callable[[Callable[[Path], None]], object]) -> str:
    """Starts a run in a session of its own and returns its id once it is recorded.

    `start` carries out the run and calls what it is given with the run's folder. The run writes to a file of its
    folder and reads from nothing; the caller's streams are let go.

    Raises:
        FindingsError: what keeps the run from starting.
    """
    from ..executor.logs import SCREEN_LOG

    reader, writer = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    if os.fork() == 0:
        os.close(reader)
        _child(start, writer, SCREEN_LOG)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        said = json.loads(pipe.read() or b"{}")
    if "run" in said:
        return str(said["run"])
    import msgspec

    findings = tuple(msgspec.convert(item, Finding) for item in said.get("findings", ()))
    if findings:
        raise FindingsError(findings)
    raise click.ClickException("the run ended before it could be recorded")


def _child(start: Callable[[Callable[[Path], None]], object], writer: int, log: str) -> None:
    """The run's own process; it never returns."""
    import msgspec

    os.setsid()

    def begun(run_dir: Path) -> None:
        out = os.open(run_dir / "logs" / log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        for descriptor, target in ((nothing, 0), (out, 1), (out, 2)):
            os.dup2(descriptor, target)
        os.write(writer, json.dumps({"run": run_dir.name}).encode())
        os.close(writer)

    code = 1
    try:
        start(begun)
        code = 0
    except FindingsError as error:
        try:
            os.write(writer, json.dumps({"findings": msgspec.to_builtins(error.findings)}).encode())
        except OSError:  # the run had begun, and its caller is gone: its own file has what went wrong
            sys.stderr.write(str(error))
    except BaseException:
        import traceback

        traceback.print_exc()  # nothing prints it for us: the process ends here
        raise
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
