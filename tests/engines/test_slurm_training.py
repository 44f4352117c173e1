"""Training on a real Slurm of two nodes: to an accuracy, through a preemption, past a broken node, with any strings."""

import re
import shutil
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
TRAIN = """
import time
from pathlib import Path
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from jobc import Accelerator

accelerator = Accelerator()
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1))
optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
loader = DataLoader(TensorDataset(torch.randn(32, 4)), batch_size=2, shuffle=True, num_workers=1)
model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
begun = False
for epoch in accelerator.epochs(3):
    for (batch,) in loader:
        if not begun:
            begun = True
            print("begins at step", accelerator.step, flush=True)
        accelerator.backward(model(batch).square().mean())
        optimizer.step()
        optimizer.zero_grad()
        if not Path("calm").exists():
            time.sleep(0.2)
            Path(f"at.{accelerator.process_index}").write_text(str(accelerator.step))
state = accelerator.get_state_dict(model)
if accelerator.is_main_process:
    Path("end.txt").write_text(repr([value.tolist() for value in state.values()]))
    print("ended at step", accelerator.step, flush=True)
"""
SAVING = "training: {seed: 3, checkpoint: {every_steps: 100, resume: auto, on_preemption: save}}\n"


def begins(cluster, run):
    """Where the attempts of the first process began, which torchrun may place on another node each time."""
    told = re.findall(r"^\[0\] begins at step (\d+)$", cluster.jobc("logs", run).stdout, re.MULTILINE)
    return sorted(map(int, told))


def come_so_far(folder, step):
    return (folder / "at.1").exists() and int((folder / "at.1").read_text() or 0) >= step


@pytest.fixture
def calm(cluster):
    """A training of two nodes, and how an undisturbed run of it ends."""
    cluster.write(TRAIN, SAVING, target="{kind: slurm, requeue: true}")
    (cluster.folder / "calm").touch()
    done = cluster.run("training.checkpoint.folder=calm-checkpoints")
    assert done.returncode == 0, done.stdout + done.stderr
    (cluster.folder / "calm").unlink()
    return (cluster.folder / "end.txt").read_text()


def test_training_goes_on_after_its_time_was_up(cluster, calm):
    """Slurm's signal before the limit: the processes save, the job is queued again, and ends as if nothing had been."""
    run, job = cluster.submit()
    cluster.until(lambda: come_so_far(cluster.folder, 5))
    cluster.slurm.run("scancel", "--batch", "--signal=USR1", job)
    assert cluster.jobc("wait", run).returncode == 0
    first, second = begins(cluster, run)
    assert first == 0 < second
    assert "Restarts=1" in cluster.slurm.run("scontrol", "show", "job", job)
    assert (cluster.folder / "end.txt").read_text() == calm


def test_stopped_training_has_saved(cluster):
    """`jobc stop` asks the processes before Slurm ends them; the same job goes on from there."""
    cluster.write(TRAIN, SAVING)
    run, job = cluster.submit()
    cluster.until(lambda: come_so_far(cluster.folder, 3))
    assert cluster.jobc("stop", run).returncode == 0
    assert cluster.state(job) == "CANCELLED"
    assert len([path for path in (cluster.folder / "checkpoints").iterdir() if path.name[0] != "."]) == 1
    (cluster.folder / "calm").touch()
    again = cluster.run()
    assert again.returncode == 0
    assert int(re.search(r"begins at step (\d+)", again.stdout)[1]) >= 3


@pytest.mark.parametrize("requeue", [True, False])
def test_node_that_breaks(breakable_cluster, requeue):
    """The job is queued again and goes on elsewhere, or has failed."""
    cluster = breakable_cluster
    text = "import os, pathlib, time\nprint('on', os.environ['SLURMD_NODENAME'], flush=True)\n"
    text += "first = pathlib.Path('first')\nif not first.exists():\n    first.touch()\n    time.sleep(300)\n"
    cluster.write(text, target=f"{{kind: slurm, requeue: {str(requeue).lower()}}}", nodes=1)
    run, job = cluster.submit()
    cluster.until((cluster.folder / "first").exists)
    cluster.slurm.down(cluster.slurm.run("squeue", "--noheader", f"--jobs={job}", "--format=%N").strip())
    code = cluster.jobc("wait", run).returncode
    said = cluster.jobc("logs", run).stdout
    if requeue:
        assert (code, len(re.findall("on jobc-n", said))) == (0, 2)
    else:
        assert (code, cluster.record(run)["word"]) == (1, "NODE_FAIL")


@pytest.mark.parametrize("backend", ["c10d", "static"])
def test_digits_are_learned_on_two_nodes(cluster, tmp_path, backend):
    """The example, as it is, by torchrun on both nodes."""
    folder = tmp_path / "digits"
    shutil.copytree(EXAMPLES / "digits", folder, ignore=shutil.ignore_patterns("out", "__pycache__"))
    words = (
        "target=slurm",
        "nodes=2",
        "hardware={kind: cpu, threads_per_process: 1}",
        f"nodes.rendezvous.backend={backend}",
    )
    done = cluster.jobc("run", str(folder / "job.yaml"), *words)
    assert done.returncode == 0, done.stdout + done.stderr
    accuracy = float(re.search(r"^\[0\] test accuracy (\S+)$", done.stdout, re.MULTILINE)[1])
    assert accuracy >= 0.97
