"""The Slurm that tests submit to: two nodes that run commands, hand out GPUs, break and are repaired."""

import subprocess
import time

import pytest


@pytest.fixture
def batch(slurm, folder):
    """Submits a command and waits until it has ended; the lines that it printed."""

    def run(command, *options):
        job = slurm.run("sbatch", "--parsable", "--output=job.out", *options, f"--wrap={command}").strip()
        wait_for(lambda: not slurm.run("squeue", "--noheader", f"--jobs={job}").strip())
        return sorted((folder / "job.out").read_text().splitlines())

    return run


def wait_for(condition, seconds=60):
    """Until something is so; what is never so fails the test."""
    for _ in range(seconds * 10):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError("it never came to pass")


def test_slurm_runs_a_command_on_both_nodes(batch):
    """Two nodes, each with its own name and rank."""
    seen = batch("srun bash -c 'echo $SLURM_PROCID $SLURMD_NODENAME $SLURM_NNODES'", "--nodes=2")
    assert seen == ["0 jobc-n1 2", "1 jobc-n2 2"]


def test_slurm_hands_out_gpus(batch, slurm):
    """A job sees the GPUs that it asked for; more than a node has are refused."""
    seen = batch("srun bash -c 'echo $CUDA_VISIBLE_DEVICES'", "--nodes=2", "--gpus-per-node=h100:4")
    assert seen == ["0,1,2,3"] * 2
    with pytest.raises(subprocess.CalledProcessError):
        slurm.run("sbatch", "--test-only", "--gpus-per-node=9", "--wrap=true")


def test_slurm_queues_a_job_again_when_its_node_breaks(breakable_slurm, folder):
    """A node goes down under a job, which starts again on the other one."""
    slurm = breakable_slurm
    command = 'echo $SLURMD_NODENAME; test -n "$SLURM_RESTART_COUNT" || sleep 600'
    slurm.run("sbatch", "--output=job.out", "--open-mode=append", "--requeue", f"--wrap={command}")
    output = folder / "job.out"
    wait_for(lambda: output.exists() and output.read_text() == "jobc-n1\n")
    slurm.down("jobc-n1")
    wait_for(lambda: not slurm.run("squeue", "--noheader").strip())
    assert output.read_text().splitlines()[-1] == "jobc-n2"


def test_slurm_with_accounting_remembers_a_job(slurm_accounting, folder):
    """sacct says how a job has ended, which squeue soon forgets."""
    job = slurm_accounting.run("sbatch", "--parsable", "--output=job.out", "--wrap=exit 7").strip()
    asked = ["sacct", "--noheader", "--parsable2", "--allocations", f"--jobs={job}", "--format=State,ExitCode"]
    wait_for(lambda: slurm_accounting.run(*asked).strip() == "FAILED|7:0")
