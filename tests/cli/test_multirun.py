"""`jobc run -m`: all runs of a sweep, some at a time, a table at the end, and nothing left behind."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

SCRIPT = """
import sys, time
from pathlib import Path
word = sys.argv[1]
print("this is", word, flush=True)
Path("here", word).touch()
while word.startswith("wait") and not Path("go").exists():
    time.sleep(0.02)
sys.exit(int(word) if word.isdigit() else 0)
"""


@pytest.fixture
def sweep(folder):
    """A job whose runs leave a file each, and may wait."""
    (folder / "train.py").write_text(SCRIPT)
    (folder / "job.yaml").write_text("script: train.py\n")
    (folder / "here").mkdir()
    return folder


def runs(jobc_command):
    return json.loads(jobc_command("ps", "--format", "json").stdout)


def here(folder):
    return sorted(path.name for path in (folder / "here").iterdir())


def wait_for(condition):
    """Until something is so; what is never so fails the test."""
    for _ in range(1500):
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError("it never came to pass")


def test_sweep_runs_every_plan_and_ends_with_a_table(jobc_command, sweep):
    """One after the other; each has a record and its output; the exit code is that of the first that failed."""
    done = jobc_command("run", "-m", "job.yaml", "args=[a],[5],[b],[6]")
    assert done.returncode == 5
    rows = [line.split() for line in done.stdout.splitlines() if line.strip()]
    assert [(row[0], row[2], row[4]) for row in rows[1:]] == [
        ("'args=[a]'", "succeeded", "0"),
        ("'args=[5]'", "failed", "5"),
        ("'args=[b]'", "succeeded", "0"),
        ("'args=[6]'", "failed", "6"),
    ]
    assert done.stderr.splitlines()[0].startswith("jobc: 1 of 4   'args=[a]'   starts   train-")
    assert f"(jobc logs {rows[2][1]})" in done.stderr
    assert jobc_command("logs", rows[2][1]).stdout.startswith("this is 5\njobc: rank 0 failed: exit code 5\n")
    assert [run["asked"]["overrides"] for run in reversed(runs(jobc_command))] == [
        [f"args=[{word}]"] for word in ("a", "5", "b", "6")
    ]


def test_jobs_says_how_many_run_at_a_time(jobc_command, sweep):
    """Two wait for each other's file only if both run; the third does not begin before one of them has ended."""
    command = [sys.executable, "-m", "jobc", "run", "-m", "job.yaml", "args=[wait1],[wait2],[c]", "--jobs", "2"]
    with subprocess.Popen(command, cwd=sweep, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as running:
        wait_for(lambda: here(sweep) == ["wait1", "wait2"])
        assert [run["state"] for run in runs(jobc_command)] == ["running", "running"]
        (sweep / "go").touch()
        assert running.wait(60) == 0
    assert here(sweep) == ["c", "wait1", "wait2"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_sweep_ends_what_runs_and_starts_nothing_more(jobc_command, sweep, number):
    """Ctrl-C is for all of it."""
    command = [sys.executable, "-m", "jobc", "run", "-m", "job.yaml", "args=[wait1],[wait2],[c]", "--jobs", "2"]
    with subprocess.Popen(command, cwd=sweep, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as running:
        wait_for(lambda: here(sweep) == ["wait1", "wait2"])
        os.kill(running.pid, number)
        told = running.stderr.read()
        assert running.wait(60) == 128 + number
    assert [run["state"] for run in runs(jobc_command)] == ["stopped", "stopped"]
    assert here(sweep) == ["wait1", "wait2"]
    assert [line.split()[-1] for line in told.splitlines() if line.startswith("'args=[c]'")] == ["started"]


def test_bad_plan_in_a_sweep_runs_nothing(jobc_command, sweep):
    """All is checked before anything starts."""
    done = jobc_command("run", "-m", "job.yaml", "args=[a]", "precision=bf16,bf61")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith("1 of 2 plans has errors\n")
    assert here(sweep) == []


def test_sweep_of_one_is_a_sweep(jobc_command, sweep):
    """Nothing varies, and the table names the job."""
    (sweep / "job.yaml").write_text("script: train.py\nargs: [a]\n")
    done = jobc_command("run", "-m", "job.yaml")
    assert done.returncode == 0
    assert done.stdout.splitlines()[2].split()[0] == "train"
    assert jobc_command("run", "-m", "-d", "job.yaml").returncode == 2


@pytest.mark.parametrize("detach", [[], ["--detach"]])
def test_interrupt_while_an_array_is_submitted_ends_it(jobc_command, sweep, detach):
    """Where sbatch does not answer; a program in its place stands for that. No run is left underway."""
    (sweep / "sbatch").write_text("#!/bin/sh\ntouch asked\nexec sleep 300\n")
    (sweep / "sbatch").chmod(0o755)
    words = ["run", "-m", *detach, "job.yaml", "target=slurm", "hardware=cpu", "args=[a],[b]"]
    env = {**os.environ, "PATH": f"{sweep}:{os.environ['PATH']}"}
    with subprocess.Popen(
        [sys.executable, "-m", "jobc", *words], cwd=sweep, env=env, stdout=subprocess.PIPE
    ) as running:
        wait_for((sweep / "asked").exists)
        running.send_signal(signal.SIGINT)
        assert running.wait(60) == 130
    assert [(run["state"], run["exit_code"]) for run in runs(jobc_command)] == [("stopped", 130)] * 2
