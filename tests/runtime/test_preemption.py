"""SIGTERM as a request to save: at one step in all processes, or given up within seconds; then the run is restarted."""

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
from jobc import Accelerator
from jobc.runtime.preemption import Preemption
from jobc.runtime.world import open_world

folder, how = Path(sys.argv[1]), sys.argv[2]
accelerator = Accelerator(cpu=True)
rank, attempt = accelerator.process_index, os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
model = accelerator.prepare(torch.nn.Linear(4, 1))
step = 0

def save():
    accelerator.wait_for_everyone()
    (folder / f"saved_{rank}").write_text(str(step))
    accelerator.wait_for_everyone()

preemption = Preemption(open_world(), save)
while attempt == "0":
    accelerator.backward(model(torch.ones(2, 4)).sum())
    step += 1
    preemption.poll()
    if step == 5:
        (folder / f"new_{rank}").write_text(str(os.getpid()))
        (folder / f"new_{rank}").rename(folder / f"pid_{rank}")
    if step == 10 and rank == 0 and how == "stuck":
        time.sleep(600)
    if step == 10 and rank == 0 and how == "gone":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "uneven":
        time.sleep(0.01 * rank)
sys.stdout.write(f"trained on in attempt {attempt}\\n")  # at once: the other process writes into the same pipe
"""


class Running:
    """A job that trains until it is asked to end."""

    def __init__(self, folder, command):
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=folder,
            env={**os.environ, "OMP_NUM_THREADS": "1", "XDG_STATE_HOME": str(folder / "state")},
        )

    def pid(self, rank):
        return int(self.until(f"pid_{rank}"))

    def until(self, name):
        deadline = time.monotonic() + 60
        while not (self.folder / name).exists():
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < deadline, f"{name} did not come"
            time.sleep(0.02)
        return (self.folder / name).read_text()

    def saved(self, rank):
        path = self.folder / f"saved_{rank}"
        return int(path.read_text()) if path.exists() else None

    def end(self):
        out, err = self.process.communicate(timeout=100)
        return self.process.returncode, out, err


@pytest.fixture
def run(tmp_path):
    """Starts a job in one process, or in two through torchrun, which may restart it once."""
    started = []

    def start(processes=2, how="trains"):
        (tmp_path / "train.py").write_text(TRAIN)
        agent = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        command = [] if processes == 1 else [*agent, "--max-restarts=1"]
        started.append(Running(tmp_path, [*command, str(tmp_path / "train.py"), str(tmp_path), how]))
        return started[-1]

    yield start
    for item in started:
        if item.process.poll() is None:
            item.process.kill()
            item.process.communicate()


@pytest.mark.parametrize("how", ["trains", "uneven"])
def test_one_process_of_two_is_asked(run, how):
    """Both save at the same step and end, and the agent starts them again."""
    job = run(how=how)
    job.pid(0)
    os.kill(job.pid(1), signal.SIGTERM)
    code, out, err = job.end()
    assert code == 0, err
    assert job.saved(0) == job.saved(1)
    assert job.saved(0) is not None
    assert out.count("trained on in attempt 1") == 2
    assert "J516" not in err


def test_all_processes_are_asked(run):
    """As a scheduler does that ends a whole job: one save, whoever heard first."""
    job = run()
    for rank in (0, 1):
        os.kill(job.pid(rank), signal.SIGTERM)
    code, out, err = job.end()
    assert code == 0, err
    assert job.saved(0) == job.saved(1)
    assert job.saved(0) is not None
    assert out.count("trained on in attempt 1") == 2


def test_the_agent_is_asked(run):
    """torchrun passes the signal on and ends; its processes have saved."""
    job = run()
    for rank in (0, 1):
        job.pid(rank)
    job.process.send_signal(signal.SIGTERM)
    code, out, _ = job.end()
    assert code != 0
    assert job.saved(0) == job.saved(1)
    assert job.saved(0) is not None
    assert "trained on" not in out


def test_a_peer_that_is_gone(run):
    """The agent ends the other one, which cannot save alone and does not hold up the restart."""
    code, out, err = run(how="gone").end()
    assert code == 0, err
    assert out.count("trained on in attempt 1") == 2


def test_a_step_that_does_not_end(run):
    """The process gives up, says so, and is started again."""
    job = run(how="stuck")
    job.pid(0)
    os.kill(job.pid(1), signal.SIGTERM)
    code, out, err = job.end()
    assert code == 0, err
    assert job.saved(0) is job.saved(1) is None
    assert "warning[J516]: the run was asked to end (SIGTERM), and no checkpoint was written: no step ended" in err
    assert out.count("trained on in attempt 1") == 2


def test_one_process_alone(run):
    """It saves after its step and ends with the exit code of SIGTERM."""
    job = run(processes=1)
    os.kill(job.pid(0), signal.SIGTERM)
    code, _, err = job.end()
    assert code == 143, err
    assert job.saved(0) is not None


@pytest.mark.parametrize("processes", [1, 2])
def test_jobc_run_is_asked(tmp_path, processes):
    """The signal goes to the processes, which save; the run was stopped, it did not fail."""
    (tmp_path / "train.py").write_text(TRAIN)
    (tmp_path / "job.yaml").write_text(
        f"script: train.py\nargs: ['{tmp_path}', trains]\nhardware: {{kind: cpu, per_node: {processes}}}\n"
    )
    job = Running(tmp_path, ["-m", "jobc", "run", "job.yaml"])
    for rank in range(processes):
        job.pid(rank)
    job.process.send_signal(signal.SIGTERM)
    code, _, err = job.end()
    assert code == 143, err
    assert "jobc: stopped by SIGTERM" in err
    assert job.saved(0) is not None
    assert job.saved(processes - 1) == job.saved(0)


def test_jobc_run_restarts_a_preempted_job(tmp_path):
    """One process is asked to end; the screen says so, and that all start again."""
    (tmp_path / "train.py").write_text(TRAIN)
    (tmp_path / "job.yaml").write_text(
        f"script: train.py\nargs: ['{tmp_path}', trains]\nhardware: {{kind: cpu, per_node: 2}}\n"
        "nodes: {max_restarts: 1}\n"
    )
    job = Running(tmp_path, ["-m", "jobc", "run", "job.yaml"])
    job.pid(0)
    os.kill(job.pid(1), signal.SIGTERM)
    code, out, err = job.end()
    assert code == 0, err
    assert "exit code 143 (asked to end by SIGTERM); all processes start again (restart 1)" in err
    assert job.saved(0) == job.saved(1)
    assert out.count("trained on in attempt 1") == 2
