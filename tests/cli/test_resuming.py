"""Jobs that save by themselves, through `jobc run`: what ends them, they go on from, and end as if nothing had been."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

TRAIN = """
import os, signal, sys, time
from pathlib import Path
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from jobc import Accelerator

accelerator = Accelerator()
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1))
optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
loader = DataLoader(TensorDataset(torch.randn(32, 4)), batch_size=2, shuffle=True)
model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
seen = []
for epoch in accelerator.epochs(3):
    for (batch,) in loader:
        accelerator.backward(model(batch).square().mean())
        optimizer.step()
        optimizer.zero_grad()
        if not Path("calm").exists():
            time.sleep(0.05)
            Path(f"at.{accelerator.process_index}").write_text(f"{os.getpid()} {accelerator.step}")
state = accelerator.get_state_dict(model)
if accelerator.is_main_process:
    Path("end.txt").write_text(repr([value.tolist() for value in state.values()]))
    print("ended at step", accelerator.step, flush=True)
"""
JOB = """
script: train.py
name: train
hardware: {kind: cpu, per_node: 2}
nodes: {max_restarts: 1}
training: {seed: 3, checkpoint: {every_steps: 4, keep: 2, resume: auto, on_preemption: save}}
"""


@pytest.fixture
def calm(jobc_command, folder):
    """The job, and how an undisturbed run of it ends."""
    (folder / "train.py").write_text(TRAIN)
    (folder / "job.yaml").write_text(JOB)
    (folder / "calm").touch()
    done = jobc_command("run", "job.yaml", "training.checkpoint.folder=calm-checkpoints")
    assert done.returncode == 0, done.stderr
    (folder / "calm").unlink()
    return (folder / "end.txt").read_text()


def disturbed(folder, disturb):
    """A run that something is done to after some steps: its exit code and what it wrote."""
    command = [sys.executable, "-m", "jobc", "run", "job.yaml"]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(command, cwd=folder, env={**os.environ, "OMP_NUM_THREADS": "1"}, **streams) as running:
        deadline = time.monotonic() + 100
        while True:
            words = (folder / "at.1").read_text().split() if (folder / "at.1").exists() else []
            if len(words) == 2 and int(words[1]) >= 6:
                break
            assert time.monotonic() < deadline, "it did not come so far"
            time.sleep(0.02)
        disturb(running.pid, int(words[0]))
        out, _ = running.communicate(timeout=200)
    return running.returncode, out


def kept(folder):
    return sorted(path.name for path in (folder / "checkpoints").iterdir() if not path.name.startswith("."))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_run_whose_process_ends_is_started_again_and_ends_as_if_nothing_had_been(folder, calm, number):
    """From the last checkpoint after SIGKILL, from the very step after SIGTERM."""
    code, out = disturbed(folder, lambda _run, worker: os.kill(worker, number))
    assert code == 0, out
    assert "all processes start again (restart 1)" in out
    assert out.count("ended at step 24") == 1
    assert (folder / "end.txt").read_text() == calm
    assert len(kept(folder)) == 2


def test_terminated_run_saves_and_a_rerun_goes_on(jobc_command, folder, calm):
    """SIGTERM to jobc itself ends the run, saved; the next one ends as if nothing had been."""
    code, out = disturbed(folder, lambda run, _worker: os.kill(run, signal.SIGTERM))
    assert code == 143, out
    listed = json.loads(jobc_command("checkpoint", "ls", "checkpoints", "--format", "json").stdout)
    assert listed, out
    (folder / "end.txt").unlink()  # that of the undisturbed run
    (folder / "calm").touch()
    done = jobc_command("rerun", "last")
    assert done.returncode == 0, done.stderr
    assert (folder / "end.txt").read_text() == calm


def test_script_that_never_asks_to_resume_is_told_so(jobc_command, folder):
    """A silent start from zero is what nobody wants."""
    (folder / "train.py").write_text(TRAIN.replace("accelerator.epochs(3)", "range(3)"))
    (folder / "job.yaml").write_text(JOB.replace("max_restarts: 1", "max_restarts: 0"))
    done = jobc_command("run", "job.yaml")
    assert done.returncode == 1
    assert "error[J526]" in done.stderr
