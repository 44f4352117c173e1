"""Plans built by hand, and real processes that execute them."""

import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import time
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import jobc.executor
import pytest
from jobc.compiler.plan import Command, LaunchPlan, NodeGroup, Ref, StartNodes, WriteFile, encode

SPEC = (Ref("run_dir"), "/spec.json")
DRIVER = """
import os, sys
from pathlib import Path
from jobc.compiler.plan import decode
from jobc.executor import Settings, execute
from jobc.spec.findings import FindingsError

plan, project, runs, grace = sys.argv[1:]
try:
    outcome = execute(decode(Path(plan).read_bytes()), Settings(
        project_dir=Path(project), env=dict(os.environ), runs_dir=Path(runs),
        stdout=sys.stdout.buffer, stderr=sys.stderr.buffer, grace=float(grace)))
except FindingsError as error:
    sys.stderr.write(str(error))
    sys.exit(2)
sys.exit(outcome.exit_code)
"""


@dataclass(frozen=True)
class Driven:
    """An executor in a process of its own."""

    process: subprocess.Popen
    out: Path
    err: Path
    runs: Path

    @property
    def run_dir(self):
        [found] = self.runs.iterdir()
        return found

    def until(self, text, where="out"):
        """Wait until the executor has shown a text."""
        wait_for(lambda: text in getattr(self, where).read_bytes())

    def end(self):
        """Exit code, stdout and stderr."""
        code = self.process.wait(60)
        return code, self.out.read_bytes(), self.err.read_bytes()


class House:
    """Builds plans for scripts in a folder and executes them."""

    def __init__(self, folder):
        self.folder = folder
        self.runs = folder / "runs"
        self.project = folder / "project"
        self.project.mkdir()
        self.driven = []

    @staticmethod
    def wait_for(condition):
        wait_for(condition)

    def script(self, text, name="train.py"):
        path = self.project / name
        path.write_text(text)
        return str(path)

    def plan(self, *commands, name="job", before=(), ports=(), **fields):
        nodes = (NodeGroup(first=0, count=1, hosts=("localhost",), processes=len(commands), commands=commands),)
        spec = WriteFile(path=SPEC, content=(Ref("spec"),), mode=0o600)
        submit = (spec, *before, StartNodes(ports=ports))
        return LaunchPlan(name=name, spec={"a": 1}, origins={}, nodes=nodes, submit=submit, **fields)

    def python(self, text, *args, rank=0, output="capture", env=None, name=None):
        path = self.script(text, name or f"rank_{rank}.py")
        return Command(
            argv=((Ref("python"),), "-u", path, *args),
            env={"JOBC_SPEC": SPEC, **(env or {})},
            ranks=(rank,),
            output=output,
        )

    def torchrun(self, text, *args, processes=2, options=()):
        argv = (
            (Ref("python"),), "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}",
            "--redirects=3", ("--log-dir=", Ref("run_dir"), "/logs"), *options, "--", self.script(text), *args,
        )  # fmt: skip
        env = {"JOBC_SPEC": SPEC, "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"}
        return Command(argv=argv, env=env, ranks=tuple(range(processes)), output="torchelastic")

    def settings(self, out=None, err=None, *, env=None, grace=5.0, runs=None, color=False):
        return jobc.executor.Settings(
            project_dir=self.project,
            env={**os.environ, **(env or {})},
            runs_dir=runs or self.runs,
            stdout=out if out is not None else BytesIO(),
            stderr=err if err is not None else BytesIO(),
            grace=grace,
            color=color,
        )

    def run(self, plan, **settings):
        """Execute in this process: outcome, stdout, stderr."""
        out, err = BytesIO(), BytesIO()
        outcome = jobc.executor.execute(plan, self.settings(out, err, **settings))
        return outcome, out.getvalue(), err.getvalue()

    def driver(self, plan, *, grace=5.0, runs=None):
        """The argument vector of a process that executes a plan."""
        saved = self.folder / f"plan_{len(self.driven)}.json"
        saved.write_bytes(encode(plan))
        return [
            sys.executable,
            "-c",
            DRIVER,
            str(saved),
            str(self.project),
            str(runs or self.runs),
            str(grace),
        ]

    def drive(self, plan, *, grace=5.0, runs=None, stdin=subprocess.DEVNULL):
        """Execute in a process of its own, in a session of its own."""
        out, err = (self.folder / f"{name}_{len(self.driven)}" for name in ("out", "err"))
        argv = self.driver(plan, grace=grace, runs=runs)
        with out.open("wb") as stdout, err.open("wb") as stderr:
            process = subprocess.Popen(argv, stdin=stdin, stdout=stdout, stderr=stderr, start_new_session=True)
        found = Driven(process, out, err, runs or self.runs)
        self.driven.append(found)
        return found

    def survivors(self):
        """Processes that were started for a run of this house and are still there."""
        mark = b"JOBC_SPEC=" + os.fsencode(self.folder)
        return [pid for pid, environ in _environs() if any(item.startswith(mark) for item in environ)]


def _environs():
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                yield int(entry.name), (entry / "environ").read_bytes().split(b"\0")
            except OSError:
                continue


def wait_for(condition, seconds=60):
    """Wait until a condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


class Terminal:
    """A terminal with a process in its foreground."""

    def __init__(self):
        self.shown = b""
        self._pid = self._fd = None

    def start(self, argv):
        self._pid, self._fd = pty.fork()
        if self._pid == 0:
            os.execv(argv[0], argv)
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))

    def until(self, text, times=1):
        """Read until the terminal shows a text, so many times."""
        while self.shown.count(text) < times:
            assert self._read(), f"the terminal ended with {self.shown!r}"

    def type(self, data):
        os.write(self._fd, data)

    def signal(self, number):
        """Send a signal to the process alone, as kill does."""
        os.kill(self._pid, number)

    def end(self):
        """Read to the end; the exit code, negative for a signal."""
        while self._read():
            pass
        _, status = os.waitpid(self._pid, 0)
        self._pid = None
        return os.waitstatus_to_exitcode(status)

    def close(self):
        if self._fd is not None:
            os.close(self._fd)
        if self._pid is not None:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)

    def _read(self):
        try:
            data = os.read(self._fd, 65536)
        except OSError:  # EIO: everybody has left the terminal
            return False
        self.shown += data
        return bool(data)


@pytest.fixture
def terminal():
    made = Terminal()
    yield made
    made.close()


@pytest.fixture
def house(tmp_path):
    made = House(tmp_path)
    yield made
    for driven in made.driven:
        if driven.process.poll() is None:
            driven.process.kill()
            driven.process.wait()
    for pid in made.survivors():
        os.kill(pid, signal.SIGKILL)
