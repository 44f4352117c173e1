"""Kills jobc while it keeps records of runs, and lets several at once start, stop and remove runs.

python tests/tools/run_records.py steps         killed at every file that `jobc run` and `jobc clean` open, make or rename
python tests/tools/run_records.py moments 500   killed at so many random moments of them
python tests/tools/run_records.py together 60   four at a time in one folder, each doing so many things

Processes are forked from this one, which has imported jobc. What is wrong is printed, and the exit code is 1 then;
`tests/cli/test_records.py` runs all three with small numbers.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from jobc.cli import candidates, clean, ps, run, status, stop, wait  # noqa: F401 - imported once, here
from jobc.cli.app import run_app
from jobc.compiler.plan import decode
from jobc.executor import Settings, execute, registry, supervise  # noqa: F401 - imported once, here
from jobc.executor.record import MAKING, REMOVING, load

#: What a run is, and how it can stand once the process that ran it was killed.
JOB = "command: [sh, -c, 'sleep 0.02']\nname: short\n"
AFTER = {"lost", "succeeded"}


class House:
    """A folder with a job and the records of its runs."""

    def __init__(self, folder: Path) -> None:
        self.runs = folder / "state" / "jobc" / "runs"
        self.job = folder / "job.yaml"
        self.job.write_text(JOB)
        os.environ["XDG_STATE_HOME"] = str(folder / "state")

    def jobc(self, *words: str) -> tuple[int, str, str]:
        """The command line in this process: exit code, stdout, stderr."""
        out, err = io.StringIO(), io.StringIO()
        sys.argv = ["jobc", *words]
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = run_app()
        return code, out.getvalue(), err.getvalue()

    def apart(self, *words: str) -> tuple[int, str, str]:
        """The same in a process of its own, for one that others may end."""
        said = self.job.with_name(f"apart.{os.getpid()}")

        def action() -> None:
            code, *texts = self.jobc(*words)
            said.write_text(json.dumps(texts))
            os._exit(code)

        code = ended(forked(action))
        return code, *json.loads(said.read_text() if code >= 0 else '["", ""]')

    def wrong(self) -> list[str]:
        """What is not as it should be, looked at from outside, when nothing runs any more."""
        code, out, err = self.jobc("ps", "--format", "json")
        if code or err:
            return [f"jobc ps: exit code {code}: {err}"]
        listed = {item["run_id"]: item["state"] for item in json.loads(out)}
        found = [f"{name} is {state}" for name, state in listed.items() if state not in AFTER]
        there = {path.name for path in self.runs.iterdir()} if self.runs.exists() else set[str]()
        found += [f"{name} is not listed" for name in there - set(listed) if not name.startswith((MAKING, REMOVING))]
        for name in listed:
            try:
                record, plan = load(self.runs / name), decode((self.runs / name / "plan.json").read_bytes())
                if (record.run_id, record.digest) != (name, plan.digest):
                    found.append(f"{name} has the record of another run")
            except (OSError, ValueError) as error:
                found.append(f"{name}: {error}")
        return found

    def left_after_clean(self) -> list[str]:
        """What is still there when all runs are removed, and an hour has gone by since."""
        for path in self.runs.glob(f"{MAKING}*"):
            os.utime(path, (0, 0))
        code, _, err = self.jobc("clean", "--keep", "0")
        if code or err:
            return [f"jobc clean: exit code {code}: {err}"]
        return [f"{path.name} is left" for path in self.runs.iterdir()]


def forked(action: Callable[[], object]) -> int:
    """Starts a process that carries out an action and says nothing; 0 where it ends well."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.setsid()
            quiet = os.open(os.devnull, os.O_RDWR)
            os.dup2(quiet, 0)
            action()
            code = 0
        except BaseException:  # noqa: BLE001 - a forked process must not go on with what its parent does
            traceback.print_exc()
        finally:
            os._exit(code)
    return pid


def ended(pid: int) -> int:
    """Waits for a process: its exit code, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def killed_at(count: int, house: House, words: tuple[str, ...]) -> bool:
    """Carries out a command that kills itself where it touches a file for the n-th time; whether it came so far."""

    def action() -> None:
        left = count

        def hook(event: str, arguments: tuple[object, ...]) -> None:
            nonlocal left
            # A path that is not absolute is one below a folder that is being removed.
            if event not in _TOUCHES or not isinstance(arguments[0], (str, os.PathLike)):
                return
            path = str(arguments[0])
            if path.startswith(str(house.runs)) or not Path(path).is_absolute():
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)
        house.jobc(*words)

    code = ended(forked(action))
    if code not in {0, -signal.SIGKILL}:
        raise AssertionError(f"{' '.join(words)} ended with {code}")
    return code == -signal.SIGKILL


_TOUCHES = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.scandir", "os.listdir", "shutil.rmtree"}


def steps() -> list[str]:
    """Every place at which the files of a run are touched, while it is made, carried out, and removed."""
    found: list[str] = []
    for what in ("run", "clean"):
        with tempfile.TemporaryDirectory() as name:
            house = House(Path(name))
            words = ("run", str(house.job)) if what == "run" else ("clean", "--keep", "0")
            count, going = 0, True
            while going:
                count += 1
                if what == "clean":
                    house.jobc("run", str(house.job))
                going = killed_at(count, house, words)
                found += house.wrong()
            found += house.left_after_clean()
        print(f"jobc {what}: killed at each of {count - 1} places")
    return found


def moments(count: str = "500") -> list[str]:
    """Random moments of `jobc run`, and of `jobc clean` in every fifth round."""
    random.seed(6)
    found: list[str] = []
    killed = Counter[str]()
    with tempfile.TemporaryDirectory() as name:
        house = House(Path(name))
        begin = time.monotonic()
        ended(forked(lambda: house.jobc("run", str(house.job))))
        whole = time.monotonic() - begin
        for number in range(int(count)):
            cleans = number % 5 == 4
            words = ("clean", "--keep", "2") if cleans else ("run", str(house.job))
            pid = forked(lambda words=words: house.jobc(*words))
            time.sleep(random.uniform(0, whole / 4 if cleans else whole * 1.1))
            os.kill(pid, signal.SIGKILL)
            ended(pid)
            found += house.wrong()
            killed[words[0]] += 1
        left = Counter(item["state"] for item in json.loads(house.jobc("ps", "--format", "json")[1]))
        half = sum(path.name.startswith(MAKING) for path in house.runs.iterdir())
        found += house.left_after_clean()
    print(f"killed: {dict(killed)}; runs at the end: {dict(left)}; folders half made: {half}")
    return found


#: What several do at once, with the exit codes that may come of it: 1 and 2 where another was faster.
THINGS: tuple[tuple[tuple[str, ...], set[int]], ...] = (
    (("run", "-d", "JOB"), {0}),
    (("run", "JOB"), {0, 143, -signal.SIGTERM}),  # asked to end when its last word was said
    (("clean", "--keep", "3"), {0}),
    (("clean", "--keep", "0"), {0}),
    (("ps",), {0}),
    (("ps", "--all", "--format", "json"), {0}),
    (("stop", "last"), {0, 1, 2}),
    (("status", "last"), {0, 2}),
    (("wait", "last"), {0, 1, 2, 143}),
)


def together(count: str = "60") -> list[str]:
    """Four processes that start, look at, stop and remove runs of one folder at the same time."""
    found: list[str] = []
    everything = Counter[str]()
    with tempfile.TemporaryDirectory() as name:
        house = House(Path(name))

        def does(number: int) -> Callable[[], None]:
            def action() -> None:
                pick = random.Random(number)
                said: list[str] = []
                came = Counter[str]()
                for _ in range(int(count)):
                    words, codes = pick.choice(THINGS)
                    words = tuple(str(house.job) if word == "JOB" else word for word in words)
                    code, out, err = (house.apart if words[:2] == ("run", str(house.job)) else house.jobc)(*words)
                    came[f"{words[0]} {code}"] += 1
                    if code not in codes or "Traceback" in err or "unreadable" in out or "lost" in out:
                        said.append(f"jobc {' '.join(words)}: exit code {code}: {out}{err}")
                Path(name, f"said.{number}").write_text(json.dumps([said, came]))

            return action

        pids = [forked(does(number)) for number in range(4)]
        codes = [ended(pid) for pid in pids]
        if any(codes):
            found.append("a process did not come to its end")
        for path in Path(name).glob("said.*"):
            said, came = json.loads(path.read_text())
            found += said
            everything.update(came)
        while any(item.record is not None and item.record.state == "running" for item in registry.listed(house.runs)):
            time.sleep(0.05)
        left = [item.record.state for item in registry.listed(house.runs) if item.record is not None]
        found += [f"a run is {state} at the end" for state in left if state not in {"succeeded", "stopped"}]
        found += house.left_after_clean()
    print(f"4 processes x {count} commands, with their exit codes: {dict(sorted(everything.items()))}")
    return found


if __name__ == "__main__":
    faults = {"steps": steps, "moments": moments, "together": together}[sys.argv[1]](*sys.argv[2:])
    print(*faults, f"{len(faults)} faults", sep="\n")
    sys.exit(bool(faults))
