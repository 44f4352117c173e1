"""Ends runs in every way and looks at what is left; run by hand, `tests/cli/test_ended_runs.py` has some of each.

python tests/tools/ended_runs.py                      100 runs: every row as often as the table says
python tests/tools/ended_runs.py 1 python             each row of one launcher once
python tests/tools/ended_runs.py 5 torchrun SIGKILL   and of one signal

A row is a launcher, who gets the signal (jobc, the agent, a rank), the signal, and what must come of it: jobc's exit
code, the state in the record, and no process of the run, wherever it went. The signal comes at a random moment of the
first seconds, or once all processes work.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from jobc.executor.registry import listed

#: Every rank starts a process in a session of its own, so that the ways to lose one are there.
SCRIPT = """
import os, subprocess, sys, time
from pathlib import Path
subprocess.Popen(["sleep", "600"], start_new_session=True)
Path("pid.part." + os.environ["RANK"]).write_text(f"{os.getpid()} {os.getppid()}")
Path("pid.part." + os.environ["RANK"]).rename("pid." + os.environ["RANK"])
time.sleep(600)
"""
JOB = "script: train.py\nname: ended\nhardware: {kind: cpu, per_node: 2}\nlauncher: {launcher}\n"
PATIENCE = 90.0  # seconds within which a run must have ended and nothing be left
INT, TERM, KILL = signal.SIGINT, signal.SIGTERM, signal.SIGKILL


class Row(NamedTuple):
    """A way to end a run, what comes of it, and how often it is tried."""

    launcher: str
    whom: str
    number: signal.Signals
    codes: set[int]
    state: str
    times: int
    early: bool = False


ROWS = (
    *(Row(launcher, "jobc", INT, {130}, "stopped", 8) for launcher in ("python", "torchrun")),
    *(Row(launcher, "jobc", TERM, {143}, "stopped", 8) for launcher in ("python", "torchrun")),
    *(Row(launcher, "jobc", KILL, {-9}, "lost", 8) for launcher in ("python", "torchrun")),
    Row("torchrun", "agent", INT, {1, 130}, "failed", 5),
    Row("torchrun", "agent", TERM, {1, 143}, "failed", 5),
    Row("torchrun", "agent", KILL, {137}, "failed", 5),
    *(Row(launcher, "rank", INT, {1, 130}, "failed", 3) for launcher in ("python", "torchrun")),
    *(Row(launcher, "rank", TERM, {143}, "failed", 3) for launcher in ("python", "torchrun")),
    *(Row(launcher, "rank", KILL, {137}, "failed", 3) for launcher in ("python", "torchrun")),
    *(Row("torchrun", "jobc", number, {128 + number}, "stopped", 4, early=True) for number in (INT, TERM)),
    Row("torchrun", "jobc", KILL, {-9}, "lost", 11, early=True),
)


def one(row: Row, folder: Path) -> list[str]:
    """Starts a run, ends it as the row says, and says what is wrong then."""
    (folder / "train.py").write_text(SCRIPT)
    (folder / "job.yaml").write_text(JOB.replace("{launcher}", row.launcher))
    env = {**os.environ, "XDG_STATE_HOME": str(folder / "state"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "jobc", "run", "job.yaml"]
    with (folder / "said").open("wb") as said:
        run = subprocess.Popen(command, cwd=folder, env=env, stdout=said, stderr=said, start_new_session=True)
        runs = folder / "state" / "jobc" / "runs"
        if row.early:
            while not list(listed(runs)):
                time.sleep(0.005)
            time.sleep(random.uniform(0, 4))
            victim = run.pid
        else:
            pids = [folder / f"pid.{rank}" for rank in (0, 1)]
            while not all(path.exists() for path in pids):
                if run.poll() is not None:
                    return [f"it ended by itself: {(folder / 'said').read_text()}"]
                time.sleep(0.01)
            rank, parent = map(int, pids[random.randrange(2)].read_text().split())
            victim = {"jobc": run.pid, "agent": parent, "rank": rank}[row.whom]
        os.kill(victim, row.number)
        try:
            code = run.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            run.kill()
            code = run.wait()
            return [f"jobc had not ended after {PATIENCE:g} s"]
    return [*_unlike(row, runs, code), *(f"left: {text}" for text in _left(folder))]


def _unlike(row: Row, runs: Path, code: int) -> list[str]:
    (found,) = listed(runs)
    record = found.record
    if record is None:
        return [f"the record cannot be read: {found.why}"]
    wrong = [] if code in row.codes else [f"exit code {code}"]
    wrong += [] if record.state == row.state else [f"state {record.state}"]
    wrong += [] if record.exit_code == (None if row.state == "lost" else code) else [f"recorded {record.exit_code}"]
    return wrong


def _left(folder: Path) -> list[str]:
    """Processes that work in the run's folder; those of a killed jobc have a moment to end."""
    deadline = time.monotonic() + PATIENCE
    while (left := list(_inside(folder))) and time.monotonic() < deadline:
        time.sleep(0.05)
    for pid in left:
        os.kill(pid, KILL)
    return [str(pid) for pid in left]


def _inside(folder: Path):
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if (entry / "cwd").readlink().is_relative_to(folder) and "Z" not in _state(entry):
                    yield int(entry.name)
            except OSError:
                continue


def _state(entry: Path) -> str:
    return (entry / "stat").read_text().rpartition(") ")[2][0]


def main(times: str = "", launcher: str = "", number: str = "") -> int:
    """The table; the exit code is 1 where anything was wrong."""
    random.seed(9)
    total = good = 0
    print(f"{'launcher':<9} {'whom':<6} {'signal':<8} {'when':<6} {'right':>7}")
    for row in ROWS:
        if launcher not in {"", row.launcher} or number not in {"", row.number.name}:
            continue
        count, wrong = int(times) if times else row.times, list[str]()
        for _ in range(count):
            with tempfile.TemporaryDirectory() as name:
                found = one(row, Path(name))
                wrong += [f"{'; '.join(found)}: {(Path(name) / 'said').read_text()[-600:]}"] if found else []
        total, good = total + count, good + count - len(wrong)
        when = "early" if row.early else "work"
        print(
            f"{row.launcher:<9} {row.whom:<6} {row.number.name:<8} {when:<6} {count - len(wrong):>3}/{count:<3}",
            flush=True,
        )
        print(*(f"  {json.dumps(text)}" for text in wrong), sep="\n", end="\n" if wrong else "")
    print(f"{good} of {total}")
    return int(good < total)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
