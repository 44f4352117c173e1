"""Jobs on a real Slurm of two nodes: submitted, followed, stopped, failed, queued again, and what is left of them."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from slurm_jobs import Cluster

EXAMPLES = Path(__file__).parents[2] / "examples"
WHO = "import os\nprint('rank', os.environ['RANK'], 'of', os.environ['WORLD_SIZE'], 'on', os.environ['SLURMD_NODENAME'])\n"


@pytest.mark.parametrize("launcher", ["torchrun", "python"])
def test_job_runs_on_both_nodes(cluster, launcher):
    """Every rank has its place; its lines are shown as they come, and kept by rank."""
    cluster.write(WHO, per_node=2)
    done = cluster.run(f"launcher={launcher}")
    assert done.returncode == 0, done.stderr
    told = re.findall(r"^\[(\d)\] rank (\d) of 4 on jobc-n[12]$", done.stdout, re.MULTILINE)
    assert sorted(told) == [(str(rank), str(rank)) for rank in range(4)]
    assert "jobc: succeeded (COMPLETED)" in done.stderr
    assert "[3] rank 3 of 4" in cluster.jobc("logs", "last", "--rank", "3").stdout


@pytest.mark.parametrize("launcher", ["torchrun", "python"])
def test_failing_rank_ends_the_job(cluster, launcher):
    """Its exit code is that of the run, also where another rank would have gone on for long."""
    cluster.write("import os, sys, time\nos.environ['RANK'] == '1' and sys.exit(7)\ntime.sleep(300)\n")
    done = cluster.run(f"launcher={launcher}")
    assert done.returncode == 7, done.stdout + done.stderr
    if launcher == "torchrun":
        assert "jobc: rank 1 failed: exit code 7" in done.stderr
    assert cluster.record(done.stderr.split()[2])["state"] == "failed"


FAILS_ONCE = """
import os, sys
import torch
from jobc import Accelerator
accelerator, attempt = Accelerator(), os.environ["TORCHELASTIC_RESTART_COUNT"]
accelerator.wait_for_everyone()
if (attempt, accelerator.process_index) == ("0", 1):
    sys.exit(3)
print("attempt", attempt, "adds up to", int(accelerator.reduce(torch.ones(1))), flush=True)
"""


def test_all_nodes_start_again_after_one_failed(cluster):
    """Within the same allocation, through torchrun; all processes meet anew."""
    cluster.write(FAILS_ONCE)
    done = cluster.run("nodes.max_restarts=1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(re.findall(r"^\[(\d)\] attempt 1 adds up to 2$", done.stdout, re.MULTILINE)) == ["0", "1"]


def test_run_goes_on_by_itself_until_it_is_stopped(cluster):
    """Submitted and left; whoever asks hears how it is and what it wrote, and can end it."""
    cluster.write("import time\nprint('began', flush=True)\ntime.sleep(300)\n")
    run, job = cluster.submit()
    cluster.until(lambda: "[1] began" in cluster.jobc("logs", run).stdout)
    assert "running" in cluster.jobc("status", run).stdout
    done = cluster.jobc("stop", run)
    assert (done.returncode, cluster.state(job)) == (0, "CANCELLED"), done.stderr
    assert (cluster.record(run)["state"], cluster.record(run)["exit_code"]) == ("stopped", 143)
    assert cluster.jobc("wait", run).returncode == 143


def test_run_that_waits_in_the_queue_is_stopped(cluster):
    """Nothing of it has begun."""
    cluster.write(WHO, target="{kind: slurm, extra: [--begin=now+1hour]}")
    run, job = cluster.submit()
    assert "pending" in cluster.jobc("status", run).stdout
    assert cluster.jobc("stop", run).returncode == 0
    assert (cluster.record(run)["state"], cluster.state(job)) == ("stopped", "CANCELLED")


def test_job_that_others_cancel_is_stopped(cluster):
    """An administrator's scancel is noticed by who waits for the run."""
    cluster.write("import time\ntime.sleep(300)\n", nodes=1)
    run, job = cluster.submit()
    cluster.until(lambda: cluster.state(job) == "RUNNING")
    cluster.slurm.run("scancel", job)
    assert cluster.jobc("wait", run).returncode == 143
    assert cluster.record(run)["word"] == "CANCELLED"


@pytest.mark.parametrize(("code", "state"), [(0, "succeeded"), (7, "failed")])
def test_run_that_slurm_has_forgotten_is_known(cluster, code, state):
    """After some minutes slurmctld knows no ended job; here it never heard of the number."""
    cluster.write(f"import sys\nsys.exit({code})\n", nodes=1)
    run, job = cluster.submit()
    cluster.until(lambda: cluster.state(job) in ("COMPLETED", "FAILED"))
    kept = cluster.home(run) / "record.json"
    kept.write_text(re.sub(r'("job_id": ?)"\d+"', r'\1"999999"', kept.read_text()))
    assert cluster.record(run)["captured"] == {"job_id": "999999"}
    assert cluster.jobc("wait", run).returncode == code
    assert cluster.record(run)["state"] == state


def test_accounting_knows_how_a_forgotten_job_ended(slurm_accounting, folder, jobc_command, monkeypatch):
    """Where sacct answers, its word counts once slurmctld has forgotten the job, whatever the batch script left."""
    monkeypatch.setenv("SLURM_CONF", slurm_accounting.env["SLURM_CONF"])
    cluster = Cluster(slurm_accounting, folder, jobc_command)
    cluster.write("import time\ntime.sleep(300)\n", nodes=1)
    run, job = cluster.submit()
    cluster.until(lambda: cluster.state(job) == "RUNNING")
    slurm_accounting.run("scancel", job)
    asked = ("sacct", "--allocations", "--noheader", "--parsable2", "--format=State", f"--jobs={job}")
    cluster.until(lambda: slurm_accounting.run(*asked).startswith("CANCELLED"))
    forgetful = folder / "squeue"
    forgetful.write_text("#!/bin/sh\nexit 1\n")
    forgetful.chmod(0o755)
    (cluster.home(run) / "ended").unlink(missing_ok=True)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    assert cluster.jobc("wait", run).returncode == 143
    assert (cluster.record(run)["state"], cluster.record(run)["word"]) == ("stopped", "CANCELLED")


def test_job_that_slurm_refuses_says_why(cluster):
    """Before a run, and in it, in sbatch's own words."""
    cluster.write(WHO, target="{kind: slurm, partition: nope}")
    for done in (cluster.jobc("check", "--preflight", "job.yaml"), cluster.run()):
        assert done.returncode != 0
        assert "invalid partition specified: nope" in done.stdout + done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("example", sorted(path.parent.name for path in EXAMPLES.glob("*/job.yaml")))
def test_slurm_would_take_every_example(cluster, monkeypatch, tmp_path, example):
    """sbatch --test-only on the script of each plan, on processors and on GPUs."""
    folder = tmp_path / example
    shutil.copytree(EXAMPLES / example, folder, ignore=shutil.ignore_patterns("out", "__pycache__", "checkpoints"))
    for launcher in ("python", "torchrun"):
        for hardware in (
            ("hardware=cpu", "hardware.per_node=2"),
            ("hardware=gpu", "hardware.per_node=4", "target.gpu_type=h100"),
            ("hardware=gpu", "hardware.per_node=2", "target.gpus=gres", "target.requeue=true", "limits.minutes=3"),
        ):
            words = ["target=slurm", f"launcher={launcher}", "nodes=2", "nodes.max_restarts=0", *hardware]
            done = cluster.jobc("check", "--preflight", str(folder / "job.yaml"), "target.cpus_per_task=1", *words)
            assert done.returncode == 0, done.stdout + done.stderr


def test_run_begins_after_the_one_it_depends_on(cluster):
    """Slurm holds it back until then, and drops it where the other fails."""
    cluster.write(
        "import sys, time\ntime.sleep(2)\nopen('order', 'a').write(sys.argv[1])\nsys.exit(sys.argv[1] == 'c')\n",
        nodes=1,
    )
    cluster.submit("args=[a]")
    second, _ = cluster.submit("args=[b]", "depends_on=[last]")
    failing, _ = cluster.submit("args=[c]")
    third, _ = cluster.submit("args=[d]", f"depends_on=[{second},{failing}]")
    assert cluster.jobc("wait", second).returncode == 0
    assert cluster.jobc("wait", third).returncode == 143
    order = (cluster.folder / "order").read_text()
    assert order.index("a") < order.index("b")
    assert "d" not in order


def test_processes_that_srun_started_are_a_job(cluster):
    """`target: inherit`: every task runs jobc, and together they are the world."""
    cluster.write(WHO, target="inherit", per_node=2)
    command = ["srun", "--nodes=2", "--ntasks-per-node=2", sys.executable, "-m", "jobc", "run", "job.yaml"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    told = re.findall(r"^rank (\d) of 4 on (jobc-n[12])$", done.stdout, re.MULTILINE)
    assert [rank for rank, _ in sorted(told)] == ["0", "1", "2", "3"]
    assert {node for _, node in told} == {"jobc-n1", "jobc-n2"}


def test_sweep_runs_in_the_queue(cluster):
    """Every combination is a job of its own, some at the same time; what fails is named."""
    cluster.write("import sys\nprint('trained with', *sys.argv[1:])\nsys.exit(sys.argv[1] == '2')\n", nodes=1)
    done = cluster.jobc("run", "-m", "--jobs", "3", "job.yaml", "args=[1],[2],[3]")
    assert done.returncode == 1
    rows = re.findall(r"^args=\S+ +(\S+) +(succeeded|failed)", done.stdout.replace("'", ""), re.MULTILINE)
    assert [state for _, state in rows] == ["succeeded", "failed", "succeeded"]
    assert "trained with 3" in cluster.jobc("logs", rows[2][0]).stdout
