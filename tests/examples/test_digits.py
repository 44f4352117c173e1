"""The digits example, as the README shows it and in every other way that a person starts a script."""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

DIGITS = Path(__file__).parents[2] / "examples" / "digits"
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]


@pytest.fixture
def digits(tmp_path, monkeypatch):
    """A copy of the example."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return Path(shutil.copytree(DIGITS, tmp_path / "digits", ignore=shutil.ignore_patterns("out", "__pycache__")))


def run(command, folder, **env):
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", **env},
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert done.returncode == 0, done.stderr
    return done


def accuracy(output):
    (line,) = (line for line in output.splitlines() if "test accuracy" in line)
    return float(line.rpartition(" ")[2])


def test_job_trains_saves_and_draws(digits):
    """`jobc run` reaches the accuracy; a second command loads what it saved; the picture is there."""
    done = run([sys.executable, "-m", "jobc", "run", "job.yaml"], digits)
    assert accuracy(done.stdout) >= 0.97
    again = run([sys.executable, "evaluate.py"], digits)
    assert again.stdout.splitlines()[-1] == f"test accuracy {accuracy(done.stdout):.4f}"
    assert (digits / "out" / "training.png").read_bytes().startswith(b"\x89PNG")
    assert {path.name for path in (digits / "out").iterdir()} == {"model.safetensors", "training.png"}


def test_progress_bar_is_drawn_by_the_main_process_alone(digits):
    """One bar, not one for every process."""
    run([sys.executable, "-m", "jobc", "run", "job.yaml", "launcher=python", "args=[--epochs,1]"], digits)
    (run_dir,) = (digits.parent / "state" / "jobc" / "runs").iterdir()
    first, second = ((run_dir / "logs" / f"rank_{rank}.stderr.log").read_text() for rank in (0, 1))
    assert "epoch 1: " in first
    assert second == ""


@pytest.mark.parametrize(
    "command",
    [
        [sys.executable, "train.py"],
        [*TORCHRUN, "train.py"],
        [sys.executable, "-m", "jobc", "run", "job.yaml", "launcher=python", "args=[--epochs,2]"],
        [sys.executable, "-m", "jobc", "run", "job.yaml", "precision=bf16", "args=[--epochs,2]"],
    ],
    ids=["python", "torchrun", "launcher-python", "bf16"],
)
def test_same_script_runs_however_it_is_started(digits, command):
    """Alone, under bare torchrun, and under jobc's own launcher."""
    words = command if "jobc" in command else [*command, "--epochs", "2"]
    assert accuracy(run(words, digits).stdout) > 0.5


def test_gpu_is_one_word_away(digits):
    """`hardware=gpu` plans one GPU process; without a GPU the process says so."""
    import torch

    plan = run([sys.executable, "-m", "jobc", "plan", "job.yaml", "hardware=gpu"], digits)
    assert "1 node x 1 gpu = 1 process" in plan.stdout
    done = subprocess.run(
        [sys.executable, "-m", "jobc", "run", "job.yaml", "hardware=gpu", "args=[--epochs,2]"],
        cwd=digits,
        capture_output=True,
        text=True,
        timeout=250,
    )
    if torch.cuda.is_available():
        assert accuracy(done.stdout) > 0.5
    else:
        assert done.returncode == 1
        assert "error[J505]" in done.stderr


def test_pinned_port_trains_too(digits):
    """A rendezvous on a port of one's own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [f"nodes.rendezvous.port={port}", "args=[--epochs,1]"]
    assert accuracy(run([sys.executable, "-m", "jobc", "run", "job.yaml", *words], digits).stdout) > 0.3
