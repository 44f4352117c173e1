"""Processes that something else has started: each takes the place that it was given, and no other."""

import os
import subprocess
import sys

import pytest

GATHER = """
import os, sys, torch
from jobc import Accelerator
accelerator = Accelerator()
ranks = accelerator.gather(torch.tensor([accelerator.process_index])).tolist()
sys.stdout.write(f"gathered {ranks} {accelerator.process_index}\\n")
sys.exit(int(sys.argv[1]) if len(sys.argv) > 1 and accelerator.is_last_process else 0)
"""
JOB = "script: train.py\nhardware: {kind: cpu, per_node: 2}\ntarget: inherit\n"


def start(folder, command, **env):
    return subprocess.run(command, cwd=folder, env={**os.environ, **env}, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("words", [[], ["args=['7']"]])
def test_every_process_of_torchrun_runs_the_plan(folder, words):
    """The place is torchrun's, and the exit code the process's."""
    (folder / "train.py").write_text(GATHER)
    (folder / "job.yaml").write_text(JOB)
    agent = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m"]
    done = start(folder, [*agent, "jobc", "run", "job.yaml", *words])
    assert done.stdout.count("gathered [0, 1]") == 2, done.stderr
    assert ("jobc: rank 1 failed: exit code 7" in done.stderr) is bool(words)
    assert (done.returncode != 0) is bool(words)


@pytest.mark.parametrize("way", ["jobc", "python"])
def test_every_process_of_mpirun_takes_its_place(folder, way):
    """Through `jobc run`, or with plain Python and no job at all."""
    if subprocess.run(["which", "mpirun"], capture_output=True).returncode:
        pytest.skip("mpirun is not installed: make engines")
    (folder / "train.py").write_text(GATHER)
    (folder / "job.yaml").write_text(JOB)
    mpirun = ["mpirun", "--allow-run-as-root", "--oversubscribe", "-n", "2"]
    words = ["-m", "jobc", "run", "job.yaml"] if way == "jobc" else ["train.py"]
    done = start(folder, [*mpirun, sys.executable, *words])
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == ["gathered [0, 1] 0", "gathered [0, 1] 1"]


@pytest.mark.parametrize(
    ("words", "env", "said"),
    [
        ([], {}, "error[J410]: `target: inherit` takes the place of each process"),
        (["target=local"], {"RANK": "1", "WORLD_SIZE": "4"}, "error[J411]: this process is number 1 of 4 that torchrun started, and each"),
        ([], {"RANK": "1", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}, "error[J411]: the job has 1 x 2 processes"),
        ([], {"RANK": "1", "WORLD_SIZE": "2"}, "MASTER_ADDR is not set"),
        (
            ["nodes.rendezvous.address=n2"],
            {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "n1"},
            "error[J411]: the job says MASTER_ADDR is n2, and this process was told n1",
        ),
    ],
)  # fmt: skip
def test_another_place_is_refused(folder, jobc_command, words, env, said):
    """Nothing starts, and the finding says what does not fit."""
    (folder / "job.yaml").write_text(JOB)
    done = jobc_command("run", "job.yaml", *words, env=env)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr


def test_launcher_that_would_start_processes_is_refused(folder, jobc_command):
    """They are there already."""
    (folder / "job.yaml").write_text(JOB + "launcher: torchrun\n")
    done = jobc_command("plan", "job.yaml")
    assert done.returncode == 2
    assert "error[J311]: `target: inherit` cannot start processes with `launcher: torchrun`" in done.stderr
